"""The real SDKs against a real edge server: Python's, Node's, and those of browsers in a headless Chromium."""
