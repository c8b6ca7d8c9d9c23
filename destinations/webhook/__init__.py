"""Webhooks: signed JSON requests to a URL of the user's own (Standard Webhooks)."""
