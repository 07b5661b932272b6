SELECT module, count(*) AS n, count(*) FILTER (state = 'completed') AS completed,
    count(*) FILTER (state = 'in_progress') AS in_progress,
    count(*) FILTER (state = 'stuck') AS stuck,
    count(*) FILTER (state = 'to_be_deleted') AS to_be_deleted,
    count(end_time) FILTER (state = 'to_be_deleted') AS was_completed,
    to_be_deleted - was_completed AS was_abandoned,
    count(*) FILTER (state = 'unknown') AS unknown,
    completed + to_be_deleted + stuck AS settled
FROM states GROUP BY module
