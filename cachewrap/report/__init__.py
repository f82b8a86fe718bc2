"""The page of `cachewrap report`: one file that needs no server and no network."""
