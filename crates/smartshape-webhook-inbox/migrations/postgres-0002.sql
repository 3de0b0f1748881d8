-- Whether another unfinished event of its queue (those of the same file_hash) must end before it is attempted. Ordered
-- workers claim only events that are not behind: of each queue the earliest, unless a later one is running. The
-- statements that store and end events keep the column; a pass over all queues repairs it after a crash.
ALTER TABLE smartshape_inbox_events ADD COLUMN behind boolean NOT NULL DEFAULT false;
UPDATE smartshape_inbox_events e SET behind = true WHERE e.state <= 1 AND EXISTS (
    SELECT 1 FROM smartshape_inbox_events o WHERE o.state <= 1 AND o.file_hash = e.file_hash AND o.seq < e.seq);
CREATE INDEX smartshape_inbox_heads ON smartshape_inbox_events (due, seq) WHERE state <= 1 AND NOT behind;
CREATE INDEX smartshape_inbox_leases ON smartshape_inbox_events (due) WHERE state = 1;
UPDATE smartshape_inbox_meta SET value = 2 WHERE name = 'schema';
