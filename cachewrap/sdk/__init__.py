"""The SDKs that Stainless generates, and the seam that they share."""
