-- The state of each record, which the tables beside this begin with.
WITH limits AS (
    SELECT module, if(count(*) >= 30,
        least(greatest(3 * quantile_cont(duration_s, 0.99), 3600), 604800), 86400) AS limit_s
    FROM records WHERE status_code = 1 AND duration_s >= 0 AND end_time <= fetched_at
    GROUP BY module
), newest AS (
    SELECT user_id, device_id, module_code,
        max(create_time) FILTER (WHERE create_time <= fetched_at) AS newest
    FROM records WHERE device_id IS NOT NULL GROUP BY ALL
), states AS (
    SELECT r.*, coalesce(limit_s, 86400) AS stuck_after_s, CASE
        WHEN status_code = 0 AND (newest > create_time OR create_time
            + to_milliseconds((coalesce(limit_s, 86400) * 1000)::BIGINT) < fetched_at) THEN 'stuck'
        WHEN status_code = 0 THEN 'in_progress' WHEN status_code = 1 THEN 'completed'
        WHEN status_code = 2 THEN 'to_be_deleted' ELSE 'unknown' END AS state
    FROM records r LEFT JOIN limits USING (module)
    LEFT JOIN newest n ON r.user_id = n.user_id AND r.device_id = n.device_id
        AND r.module_code IS NOT DISTINCT FROM n.module_code
)
