-- $ROWS events, and activity of 14 days.
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $ROWS)
INSERT INTO events (version, key, state, due, attempts, file_hash, event, file, uuid, owner, received, bytes, stored, settled, error, error_group)
SELECT 1, randomblob(16), iif(i % 200 = 0, 0, iif(i % 66 = 0, 3, 2)), 0, 1, random(), iif(i % 3 = 0, 'file_uploaded', 'annotation_updated'),
    printf('%024x', i / 10), printf('%032x', i), 'owner@example.com', (unixepoch() - ($ROWS - i)) * 1000000, 956, 0,
    iif(i % 200 = 0, NULL, 0), iif(i % 66 = 0, printf('no part %024x: %d', i, i % 12), NULL), iif(i % 66 = 0, i % 12, NULL) FROM n;
INSERT INTO bodies SELECT seq, '{}' FROM events WHERE state <> 2;
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20160)
INSERT INTO activity SELECT unixepoch() / 60 - i, 50, 49, 3, 1, 9000, 700, 40, 9000 FROM n;
ANALYZE;
