-- How long an API token was meant to live when it was made, in milliseconds; 0 for ever, NULL where
-- an older program made it. A rotation moves `expires`, and never this.
ALTER TABLE api_token ADD COLUMN meant_life bigint;
