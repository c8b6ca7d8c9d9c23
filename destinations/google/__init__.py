"""Google Ads Customer Match: members of user lists, through the Data Manager API."""
