, span AS (
    SELECT max(fetched_at) AS now,
        date_trunc('week', now AT TIME ZONE 'Asia/Shanghai') - INTERVAL 8 WEEK AS start FROM records
), known AS (
    SELECT state, create_time, end_time, CASE
        WHEN end_time <= fetched_at THEN greatest(end_time, create_time)
        WHEN state = 'completed' THEN if(end_time IS NULL, create_time, fetched_at)
        WHEN state = 'to_be_deleted' AND end_time IS NOT NULL THEN fetched_at
        WHEN state <> 'in_progress' THEN least(fetched_at, create_time
            + to_milliseconds((stuck_after_s * 1000)::BIGINT)) END AS over,
        over IS NOT NULL AND state <> 'completed' AND end_time IS NULL AS is_lost
    FROM states WHERE create_time <= fetched_at
), counts AS (
    SELECT state, is_lost, end_time IS NOT NULL AS has_end, count(*) AS n,
        greatest((create_time AT TIME ZONE 'Asia/Shanghai')::DATE, start::DATE - 1) AS created_on,
        if(over IS NULL, NULL,
            greatest((over AT TIME ZONE 'Asia/Shanghai')::DATE, start::DATE - 1)) AS over_on
    FROM known, span
    GROUP BY ALL
), days AS (
    SELECT unnest(generate_series(start::DATE - 1, (now AT TIME ZONE 'Asia/Shanghai')::DATE,
        INTERVAL 1 DAY))::DATE AS day FROM span
), created AS (
    SELECT created_on AS day, sum(n) AS created, sum(n) FILTER (state = 'completed') AS completed,
        sum(n) FILTER (state = 'in_progress') AS in_progress,
        sum(n) FILTER (state = 'stuck') AS stuck,
        sum(n) FILTER (state = 'to_be_deleted' AND has_end) AS was_completed,
        sum(n) FILTER (state = 'to_be_deleted' AND NOT has_end) AS was_abandoned,
        sum(n) FILTER (state = 'unknown') AS unknown
    FROM counts GROUP BY day
), over AS (
    SELECT over_on AS day, sum(n) FILTER (NOT is_lost) AS ended,
        sum(n) FILTER (is_lost) AS presumed_stuck
    FROM counts WHERE over_on IS NOT NULL GROUP BY day
), daily AS (
    SELECT day, COLUMNS(* EXCLUDE (day)),
        sum(coalesce(created, 0) - coalesce(ended, 0) - coalesce(presumed_stuck, 0))
            OVER (ORDER BY day) AS open
    FROM days LEFT JOIN created USING (day) LEFT JOIN over USING (day)
)
SELECT (day::TIMESTAMP AT TIME ZONE 'Asia/Shanghai') AS bin_start, coalesce(COLUMNS(* EXCLUDE (day)), 0)
FROM daily WHERE day >= (SELECT start::DATE FROM span)
