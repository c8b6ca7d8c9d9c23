"""Google Ads Customer Match over the Data Manager API."""
