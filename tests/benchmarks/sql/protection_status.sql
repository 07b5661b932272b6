, known AS (
    SELECT user_id, device_id, module_code, module, device_name, device_os, state, end_time,
        fetched_at, device_create_time, CASE
            WHEN create_time <= fetched_at THEN create_time
            WHEN create_time <= fetched_at + INTERVAL 5 MINUTE THEN fetched_at END AS began
    FROM states WHERE device_id IS NOT NULL AND began IS NOT NULL
), modules AS (
    SELECT user_id, device_id, module_code, any_value(module) AS module,
        list_position(['folder', 'album', 'address_book', 'unknown'], any_value(module)) AS place,
        arg_max(device_name, began) AS name, arg_max(device_os, began) AS os, count(*) AS n,
        count(*) FILTER (state = 'completed') AS n_completed,
        count(*) FILTER (state = 'to_be_deleted' AND end_time IS NOT NULL) AS n_deleting,
        min(began) AS first, max(began) AS attempt,
        max(began) FILTER (state = 'completed') AS completed,
        max(began) FILTER (state = 'to_be_deleted' AND end_time IS NOT NULL) AS deleted,
        max(began) FILTER (state IN ('stuck', 'in_progress', 'unknown')
            OR state = 'to_be_deleted' AND end_time IS NULL) AS unfinished,
        max(fetched_at) AS as_of, min(device_create_time) AS bound,
        attempt >= as_of - INTERVAL 90 DAY AS is_expected
    FROM known GROUP BY user_id, device_id, module_code
), strikes AS (
    SELECT user_id, device_id, max(stuck) AS stuck_in_a_row FROM (
        SELECT k.user_id, k.device_id, k.module_code, count(*) AS stuck
        FROM known k JOIN modules m ON k.user_id = m.user_id AND k.device_id = m.device_id
            AND k.module_code IS NOT DISTINCT FROM m.module_code
        WHERE state = 'stuck' AND (completed IS NULL OR began > completed) GROUP BY ALL
    ) GROUP BY ALL
), held AS (
    SELECT user_id, device_id, arg_max(name, attempt) AS name, arg_max(os, attempt) AS os,
        sum(n) AS n, sum(n_completed) AS n_completed, sum(n_deleting) AS n_deleting,
        min(first) AS first, max(attempt) AS attempt, max(completed) AS completed,
        max(deleted) AS deleted, max(unfinished) AS unfinished, max(as_of) AS as_of,
        min(bound) AS bound, arg_max(module, (completed, place)) FILTER (completed IS NOT NULL)
            AS newest_module,
        arg_min(module, (coalesce(completed, TIMESTAMPTZ '1970-01-01'), place))
            FILTER (is_expected) AS worst_module,
        arg_min(epoch_ms(as_of) - epoch_ms(completed), (completed, place))
            FILTER (is_expected AND completed IS NOT NULL) AS worst_ms,
        bool_or(completed IS NULL) FILTER (is_expected) AS worst_has_none,
        string_agg(module, ', ' ORDER BY place) FILTER (is_expected) AS expected_modules
    FROM modules GROUP BY user_id, device_id
), together AS (
    SELECT h.* EXCLUDE (user_id, device_id, name, os, as_of), strikes.stuck_in_a_row,
        coalesce(h.user_id, d.user_id) AS user_id, coalesce(h.device_id, d.device_id) AS device_id,
        trim(coalesce(d.device_name, h.name, '')) AS name, is_bound IS NOT NULL AS is_bound,
        lower(trim(coalesce(if(is_bound, d.device_os, h.os), ''))) AS os,
        coalesce(h.as_of, d.fetched_at) AS as_of,
        coalesce(d.device_create_time, h.bound) AS bound_time,
        epoch_ms(coalesce(h.as_of, d.fetched_at)) - epoch_ms(completed) AS age_ms,
        coalesce(coalesce(h.as_of, d.fetched_at)
            < coalesce(d.device_create_time, h.bound, h.first) + INTERVAL 7 DAY, false) AS is_new
    FROM held h FULL JOIN (SELECT *, true AS is_bound FROM devices) d
        ON h.user_id = d.user_id AND h.device_id = d.device_id
    LEFT JOIN strikes ON h.user_id = strikes.user_id AND h.device_id = strikes.device_id
), judged AS (
    SELECT *, CASE
        WHEN NOT is_bound THEN 'unbound'
        WHEN completed IS NULL AND deleted IS NOT NULL THEN 'deleting'
        WHEN completed IS NULL AND is_new THEN 'initial_pending'
        WHEN completed IS NULL THEN 'never'
        WHEN age_ms <= 604800000 THEN if(stuck_in_a_row > 0, 'warning', 'protected')
        WHEN age_ms <= 1.5 * 604800000 THEN 'late' ELSE 'outdated' END AS state
    FROM together
)
SELECT user_id, device_id,
    if(name = '', '(no name)', name) || ' ·' || right(device_id, 4) AS device_label,
    CASE WHEN os IN ('', 'unknown') THEN 'unknown' WHEN contains(os, 'harmony') THEN 'harmonyos'
        WHEN contains(os, 'android') THEN 'android'
        WHEN regexp_matches(os, 'ios|ipad|iphone') THEN 'ios'
        WHEN contains(os, 'windows') THEN 'windows' WHEN contains(os, 'mac') THEN 'macos'
        WHEN contains(os, 'linux') THEN 'linux' ELSE 'other' END AS os_family,
    state, CASE
        WHEN state IN ('protected', 'warning', 'unbound') THEN NULL
        WHEN state = 'initial_pending' THEN 'new' WHEN n IS NULL THEN 'never_attempted'
        WHEN unfinished > coalesce(completed, TIMESTAMPTZ '1970-01-01') AND state <> 'deleting'
            THEN 'attempts_stuck'
        WHEN deleted IS NOT NULL AND NOT coalesce(completed > deleted, false)
            THEN 'only_deleted_copies'
        ELSE 'no_attempt' END AS cause,
    age_ms / 3600000 AS rpo_age_h, completed AS last_completed_time,
    attempt AS last_attempt_time, coalesce(stuck_in_a_row, 0) AS stuck_in_a_row, newest_module,
    worst_module, if(worst_has_none, NULL, worst_ms / 3600000) AS worst_module_age_h,
    expected_modules, coalesce(n, 0) AS n, coalesce(n_completed, 0) AS n_completed,
    coalesce(n_deleting, 0) AS n_deleting, bound_time, is_bound AND NOT is_new AS in_scope, as_of
FROM judged
ORDER BY list_position(['never', 'deleting', 'outdated', 'late', 'warning', 'protected',
    'initial_pending', 'unbound'], state), coalesce(completed, bound_time, first),
    user_id, device_id
