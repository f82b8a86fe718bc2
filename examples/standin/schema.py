"""JSON that fits a JSON schema's simple types, for structured answers and tool arguments."""

from __future__ import annotations

from typing import Any

from standin.wire import Draw


def example(schema: Any, draw: Draw, root: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """A value that fits the schema and is unlike that of any other draw.

    Understood are types, ``properties``, ``items``, ``enum``, ``const``, ``anyOf``, ``oneOf``,
    ``allOf``, ``$ref`` within the schema, ``minimum``, ``maximum`` and ``minItems``. A schema that
    refers to itself is cut off at the shortest of its alternatives.
    """
    if not isinstance(schema, dict):
        return draw.token
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for name in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            target = target[name] if name else target
        return example(target, draw, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][draw.number % len(schema["enum"])]
    for word in ("anyOf", "oneOf", "allOf"):
        if choices := schema.get(word):
            nothing = [choice for choice in choices if choice.get("type") == "null"]
            choice = nothing[0] if nothing and depth > 6 else choices[0]
            return example(choice, draw, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {
            name: example(inner, draw, root, depth + 1)
            for name, inner in schema.get("properties", {}).items()
        }
    if kind == "array":
        count = max(schema.get("minItems", 0), 0 if depth > 6 else 1)
        return [example(schema.get("items"), draw, root, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        value = low + draw.number + (0.5 if kind == "number" else 0)
        return min(value, schema.get("maximum", value))
    if kind == "boolean":
        return draw.number % 2 == 0
    return None if kind == "null" else draw.text()
