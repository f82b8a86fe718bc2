"""Credentials of every shape and name, and what only looks a little like one."""

NAMED = """
    api_key apiKey api-key apikey API_KEY OPENAI_API_KEY x-api-key apiKeyString api_keys
    authorization Authorization auth token bearer_token accessToken access_token hf_token hfToken
    id_token refresh_token GITHUB_TOKEN github_pat secret secrets client_secret secret_key secretKey
    private_key signing_key password Password db_password passphrase passwd pwd credentials
    vertex_credentials cookie cookies jwt bearer connection_string dsn otp access_key
    aws_access_key_id aws_secret_access_key aws_session_token aws_bearer_token_bedrock
    aws_web_identity_token AWSSecretAccessKey langfuse_secret_key azure_ad_token virtual_key
    subscription-key service_account_json --api-key
""".split()

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THs"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234567890\n-----END RSA PRIVATE KEY-----"

SHAPED = {
    "OpenAI": "sk-abcdefghij1234567890ABCDEFGHIJ",
    "OpenAI, of a project": "sk-proj-abcDEF1234567890abcd",
    "Anthropic": "sk-ant-api03-abcdefghij1234567890",
    "Google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "Google's OAuth": "ya29.a0AfH6SMBabcdefghijklmnop",
    "GitHub": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "GitHub, of an app": "ghs_abcdefghijklmnopqrstuvwxyz0123456789",
    "GitHub, fine-grained": "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwx",
    "Slack": "xoxb-123456789012-abcdefABCDEF",
    "AWS": "AKIAIOSFODNN7ABCDEFG",
    "AWS, of a session": "ASIAIOSFODNN7ABCDEFG",
    "Hugging Face": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "Groq": "gsk_abcdefghijklmnopqrstuvwxyz0123456789",
    "GitLab": "glpat-abcdefghijklmnopqrst",
    "Replicate": "r8_abcdefghijklmnopqrstuvwxyz0123456789AB",
    "npm": "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "PyPI": "pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMA",
    "SendGrid": "SG.abcdefghijklmnopqrst.abcdefghijklmnopqrst",
    "Stripe": "sk_live_abcdefghij0123456789",
    "Perplexity": "pplx-abcdefghijklmnopqrstuvwxyz0123456789",
    "xAI": "xai-abcdefghijklmnopqrstuvwxyz0123456789",
    "Databricks": "dapi0123456789abcdef0123456789abcdef",
    "Google's new keys": "AQ.Ab8RN6Kabcdefghijklmnopqrstuvwxyz0123456789",
    "Bedrock": "ABSKQmVkcm9ja0FQSUtleS0xMjM0NTY3ODkwYWJjZGVmZ2hpams=",
    "ElevenLabs": "sk_0123456789abcdef0123456789abcdef0123456789abcdef",
    "Firecrawl": "fc-0123456789abcdef0123456789abcdef",
    "Jina": "jina_0123456789abcdef0123456789abcdefABCDEF",
    "Pinecone": "pcsk_2abcDE_0123456789abcdef0123456789abcdef",
    "Together": "tgp_v1_0123456789abcdef0123456789abcdef",
    "Shopify": "shpat_0123456789abcdef0123456789abcdef",
    "Grafana": "glsa_0123456789abcdef0123456789abcdef_01234567",
    "Atlassian": "ATATT3xFfGF0abcdefghijklmnopqrstuvwxyz0123456789abcdef=1A2B3C4D",
    "a bot of Telegram": "https://api.telegram.org/bot123456789:AAabcdefghijklmnopqrstuvwxyz01234",
    "a webhook of Discord": "https://discord.com/api/webhooks/123456789012/" + "abcdefghij" * 5,
    "a file of settings": "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCY3z9",
    "a line of a shell": "export DB_PASSWORD='c0rrect-h0rse-battery'",
    "an option": "--api-key=q8Zk040Vx2Lw7TbR4nM",
    "a header in prose": "x-api-key: q8Zk040Vx2Lw7TbR4nM",
    "a header with a scheme": "Authorization: Token q8Zk040Vx2Lw7TbR4nM",
    "JSON in prose": 'use {"password": "q8Zk040Vx2Lw7TbR4nM"} there',
    "JSON in JSON": 'use {\\"secret\\": \\"q8Zk040Vx2Lw7TbR4nM\\"} there',
    "a JWT": JWT,
    "a PEM block": PEM,
    "a PEM block in JSON": PEM.replace("\n", "\\n"),
    "a bearer": "Bearer abcdefgh01234567",
    "a connection": "postgres://admin:s3cr3t-9@db.example/one",
    "a connection without a user": "redis://:s3cr3t-9@db.example/0",
    "a presigned address": "https://b.s3.amazonaws.com/x?X-Amz-Signature=abcdef0123456789&y=1",
    "a shared access signature": "https://a.blob.core.windows.net/c?sv=1&sig=abcdefg%3D",
    "a key in an address": "https://maps.example/api?q=a&key=0123456789abcdef0123",
    "Azure's connection string": f"AccountName=a;AccountKey={'aB3/' * 16}==;EndpointSuffix=b",
    "a webhook": "https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx",
}

UNSHAPED = {
    "a prefix": "keys begin with sk-... or sk-proj-… or AIza",
    "a library": "the sk-learn-pipelines-and-transformers of scikit",
    "a placeholder": "export OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "a name": "send Authorization: Bearer <token>, or Basic $TOKEN",
    "prose": "a bearer of news, a basic misunderstanding, a token of thanks",
    "a connection of the docs": "postgres://user:password@localhost/db",
    "a connection without a password": "postgres://user@localhost:5432/db",
    "an address": "https://example.com:8080/a/b?c=d&state=sorted&e=f#g@h",
    "mail": "write to me@example.com: today",
    "a header of PEM": "look for -----BEGIN PRIVATE KEY----- in the file",
    "a public key": "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w\n-----END PUBLIC KEY-----",
    "a hash": "5f0c2a" * 10,
    "a uuid": "123e4567-e89b-12d3-a456-426614174000",
    "base64": "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=" * 4,
    "a thought": "EqQBCkYIARgCKkDm1234567890abcdefghijklmnopqrstuvwxyz+/==",
    "an id": "chatcmpl-AbCdEf1234567890 call_abcdefghij1234567890 toolu_01ABC rs_0123",
    "Asia": "ASIAN MARKETS AND AKIANORDIC",
    "JSON": '{"eyJ": 1, "a": "sk-", "key": "value"}',
    "code": "token = decode_v2(b1)\npassword=get_password_v2_from3(x)\napi_key=os.environ['K1']",
    "a rule": "password: at least 12 characters, 2 digits. secret=your-secret-value-123456",
    "a sort key": "sort_key=created-2024-01-02 key: 2024-01-02T10:20:30 author=q8Zk040Vx2",
    "counts": "max_tokens=4096, tokens: 1234567890123, author=abc123def456ghi",
    "a model": "model: accounts-fireworks-models-llama-v3p1-405b-instruct",
}
