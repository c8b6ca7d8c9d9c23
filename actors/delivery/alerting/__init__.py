"""Alerts: rules over what is sampled (`rules`), notices as requests and mails (`texts`), and the shell that sends."""
