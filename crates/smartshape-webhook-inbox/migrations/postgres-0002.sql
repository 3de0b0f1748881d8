-- Whether another unfinished event of its queue (those of the same file_hash) must end before it is attempted. The
-- earliest unfinished event of a queue is not behind, so that an ordered claim looks at no others. The statements that
-- store and end events keep the column; what a crash leaves between them is repaired by a pass over all queues.
ALTER TABLE smartshape_inbox_events ADD COLUMN behind boolean NOT NULL DEFAULT false;
UPDATE smartshape_inbox_events e SET behind = true WHERE e.state <= 1 AND EXISTS (
    SELECT 1 FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq);
CREATE INDEX smartshape_inbox_heads ON smartshape_inbox_events (due, seq) WHERE state <= 1 AND NOT behind;
CREATE INDEX smartshape_inbox_leases ON smartshape_inbox_events (due) WHERE state = 1;
UPDATE smartshape_inbox_meta SET value = 2 WHERE name = 'schema';
