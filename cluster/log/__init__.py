"""The evaluators' durable logs: what they keep (records), who may ask what (contract), the SQLite one."""
