-- Deliveries that processes without a worker have claimed or handled.
CREATE TABLE smartshape_inbox_dedup (
    key bytea PRIMARY KEY,
    -- The holder of the claim; NULL once the delivery was handled.
    token bytea,
    -- When the claim ends, or the row is deleted.
    expires timestamptz NOT NULL
);
CREATE INDEX smartshape_inbox_dedup_expires ON smartshape_inbox_dedup (expires);
UPDATE smartshape_inbox_meta SET value = 5 WHERE name = 'schema';
