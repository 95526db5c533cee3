-- From where an API token may be used: a JSON array of networks, NULL for anywhere.
ALTER TABLE api_token ADD COLUMN networks TEXT;
