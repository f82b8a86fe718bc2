"""The shared seam of the Stainless family of SDKs, and a few lines for each SDK."""
