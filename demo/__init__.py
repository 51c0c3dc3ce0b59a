"""The demo: a small shop whose board of orders is live in every tab."""
