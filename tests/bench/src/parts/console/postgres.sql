-- $ROWS events, and activity of 14 days.
INSERT INTO smartshape_inbox_events
    (version, key, state, due, attempts, file_hash, event, file, uuid, owner, received, bytes, settled, error, error_group)
SELECT 1, decode(md5(i::text), 'hex'), CASE WHEN i % 200 = 0 THEN 0 WHEN i % 66 = 0 THEN 3 ELSE 2 END, now(), 1, hashint8(i),
    CASE WHEN i % 3 = 0 THEN 'file_uploaded' ELSE 'annotation_updated' END, lpad(to_hex(i / 10), 24, '0'), md5(i::text), 'owner@example.com',
    (extract(epoch FROM now())::bigint - ($ROWS - i)) * 1000000, 956, CASE WHEN i % 200 <> 0 THEN now() END,
    CASE WHEN i % 66 = 0 THEN format('no part %s: %s', md5(i::text), i % 12) END, CASE WHEN i % 66 = 0 THEN i % 12 END
    FROM generate_series(1, $ROWS) i;
INSERT INTO smartshape_inbox_bodies SELECT seq, '{}' FROM smartshape_inbox_events WHERE state <> 2;
INSERT INTO smartshape_inbox_activity
    SELECT extract(epoch FROM now())::bigint / 60 - i, 50, 49, 3, 1, 9000, 700, 40, 9000 FROM generate_series(0, 20160) i;
VACUUM ANALYZE;
