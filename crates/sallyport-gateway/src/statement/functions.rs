//! Functions of servers by their names: which only compute, which write, and which reach beyond the
//! database.
//!
//! The rule: a function that is not in [`COMPUTING`] may do anything. The list holds functions that come
//! with a server, change nothing, run no text as SQL and open nothing. A name with a schema in front is
//! known only if that is the server's own.
//!
//! INVARIANT: no function stands here that runs SQL it is given, reads or writes files, signals other
//! sessions, or changes settings.

/// What a function can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but to compute.
    Computes,
    /// Writes rows, draws from sequences, takes locks, or tells other sessions something.
    Writes,
    /// Changes a setting.
    Sets,
    /// Runs or reads what is outside the database.
    Reaches,
    /// Not known.
    Unknown,
}

/// What the function of this name does; lower case.
pub(super) fn effect(name: &str) -> Effect {
    if COMPUTING.binary_search(&name).is_ok() {
        Effect::Computes
    } else if WRITING.contains(&name) {
        Effect::Writes
    } else if name == "set_config" {
        Effect::Sets
    } else if REACHING.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    }) {
        Effect::Reaches
    } else {
        Effect::Unknown
    }
}

const WRITING: &[&str] = &[
    "nextval",
    "setval",
    "pg_notify",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_xact_lock",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "get_lock",
    "release_lock",
    "release_all_locks",
];

/// With `*`, all whose name begins so.
const REACHING: &[&str] = &[
    "pg_read_*",
    "pg_ls_*",
    "pg_stat_file",
    "pg_file_*",
    "lo_import",
    "lo_export",
    "dblink*",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_promote",
    "pg_logical_*",
    "pg_create_*",
    "pg_drop_*",
    "pg_replication_*",
    "pg_switch_wal",
    "load_file",
    "sys_exec",
    "sys_eval",
];

/// Sorted.
#[rustfmt::skip]
pub(super) const COMPUTING: &[&str] = &[
    "abs", "acos", "acosh", "adddate", "addtime", "age", "any_value", "array", "array_agg", "array_append", "array_cat",
    "array_dims", "array_fill", "array_length", "array_lower", "array_ndims", "array_position", "array_positions",
    "array_prepend", "array_remove", "array_replace", "array_to_json", "array_to_string", "array_upper", "ascii",
    "asin", "asinh", "atan", "atan2", "atanh", "avg", "bin", "bit_and", "bit_count", "bit_length", "bit_or",
    "bit_xor", "bool_and", "bool_or", "btrim", "cardinality", "cast", "cbrt", "ceil", "ceiling",
    "char_length", "character_length", "charset", "chr", "clock_timestamp", "coalesce", "col_description",
    "collation", "concat", "concat_ws", "connection_id", "conv", "convert_from", "convert_to", "convert_tz", "corr",
    "cos", "cosd", "cosh", "cot", "count", "covar_pop", "covar_samp", "crc32", "cume_dist", "curdate",
    "current_catalog", "current_database", "current_date", "current_role", "current_schema", "current_schemas",
    "current_setting", "current_time", "current_timestamp", "current_user", "curtime", "database", "date",
    "date_add", "date_bin", "date_format", "date_part", "date_sub", "date_trunc", "datediff", "day", "dayname",
    "dayofmonth", "dayofweek", "dayofyear", "decode", "degrees", "dense_rank", "div", "elt", "encode", "enum_first",
    "enum_last", "enum_range", "every", "exp", "extract", "factorial", "family", "field", "find_in_set",
    "first_value", "floor", "format", "format_bytes", "format_type", "found_rows", "from_base64", "from_days",
    "from_unixtime", "gcd", "gen_random_uuid", "generate_series", "generate_subscripts", "get_bit", "get_byte",
    "greatest", "group_concat", "grouping", "has_any_column_privilege", "has_column_privilege",
    "has_database_privilege", "has_function_privilege", "has_schema_privilege", "has_sequence_privilege",
    "has_table_privilege", "has_type_privilege", "hashtext", "hex", "host", "hour", "if", "ifnull", "inet_aton",
    "inet_client_addr", "inet_client_port", "inet_ntoa", "inet_server_addr", "inet_server_port", "initcap", "instr",
    "isempty", "isfinite", "isnull", "json_agg", "json_array", "json_array_elements", "json_array_elements_text",
    "json_array_length", "json_arrayagg", "json_build_array", "json_build_object", "json_contains", "json_depth",
    "json_each", "json_each_text", "json_extract", "json_extract_path", "json_extract_path_text", "json_keys",
    "json_length", "json_object", "json_object_agg", "json_object_keys", "json_objectagg", "json_populate_record",
    "json_populate_recordset", "json_strip_nulls", "json_to_record", "json_to_recordset", "json_type",
    "json_typeof", "json_unquote", "json_valid", "json_value", "jsonb_agg", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object", "jsonb_each",
    "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_insert", "jsonb_object",
    "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_query", "jsonb_path_query_array",
    "jsonb_path_query_first", "jsonb_populate_record", "jsonb_populate_recordset", "jsonb_pretty", "jsonb_set",
    "jsonb_strip_nulls", "jsonb_to_record", "jsonb_to_recordset", "jsonb_typeof", "justify_days", "justify_hours",
    "justify_interval", "lag", "last_day", "last_insert_id", "last_value", "lcase", "lcm", "lead", "least", "left",
    "length", "ln", "localtime", "localtimestamp", "locate", "log", "log10", "log2", "lower", "lower_inc",
    "lower_inf", "lpad", "ltrim", "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz",
    "makedate", "maketime", "masklen", "max", "md5", "microsecond", "mid", "min", "minute", "mod", "mode", "month",
    "monthname", "network", "now", "nth_value", "ntile", "nullif", "num_nonnulls", "num_nulls",
    "numnode", "obj_description", "oct", "octet_length", "ord", "overlay", "parse_ident", "percent_rank",
    "percentile_cont", "percentile_disc", "period_add", "period_diff", "pg_backend_pid", "pg_char_to_encoding",
    "pg_client_encoding", "pg_collation_is_visible", "pg_column_size", "pg_conf_load_time",
    "pg_conversion_is_visible", "pg_database_size", "pg_describe_object", "pg_encoding_to_char",
    "pg_function_is_visible", "pg_get_constraintdef", "pg_get_expr", "pg_get_function_arg_default",
    "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result",
    "pg_get_function_sqlbody", "pg_get_functiondef", "pg_get_indexdef", "pg_get_keywords",
    "pg_get_partition_ancestors", "pg_get_partition_constraintdef", "pg_get_partkeydef", "pg_get_ruledef",
    "pg_get_serial_sequence", "pg_get_statisticsobjdef", "pg_get_statisticsobjdef_columns", "pg_get_triggerdef",
    "pg_get_userbyid", "pg_get_viewdef", "pg_has_role", "pg_identify_object", "pg_index_column_has_property",
    "pg_indexam_has_property", "pg_indexes_size", "pg_is_in_recovery", "pg_is_other_temp_schema",
    "pg_my_temp_schema", "pg_opclass_is_visible", "pg_operator_is_visible", "pg_options_to_table",
    "pg_partition_ancestors", "pg_partition_tree", "pg_postmaster_start_time", "pg_relation_is_publishable",
    "pg_relation_size", "pg_sequence_last_value", "pg_size_pretty", "pg_statistics_obj_is_visible",
    "pg_table_is_visible", "pg_table_size", "pg_tablespace_location", "pg_tablespace_size",
    "pg_total_relation_size", "pg_ts_config_is_visible", "pg_ts_dict_is_visible", "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible", "pg_type_is_visible", "pg_typeof", "phraseto_tsquery", "pi", "plainto_tsquery",
    "position", "pow", "power", "quarter", "quote", "quote_ident", "quote_literal", "quote_nullable", "radians",
    "rand", "random", "range_agg", "range_merge", "rank", "regexp_count", "regexp_instr", "regexp_like",
    "regexp_match", "regexp_matches", "regexp_replace", "regexp_split_to_array", "regexp_split_to_table",
    "regexp_substr", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
    "regr_sxy", "regr_syy", "repeat", "replace", "reverse", "right", "round", "row", "row_count", "row_number",
    "row_security_active", "row_to_json", "rpad", "rtrim", "scale", "schema", "sec_to_time", "second",
    "session_user", "sha1", "sha2", "sha224", "sha256", "sha384", "sha512", "shobj_description", "sign", "sin",
    "sind", "sinh", "soundex", "space", "split_part", "sqrt", "starts_with", "statement_timestamp", "std", "stddev",
    "stddev_pop", "stddev_samp", "str_to_date", "strcmp", "string_agg", "string_to_array", "string_to_table",
    "strip", "strpos", "subdate", "substr", "substring", "substring_index", "subtime", "sum", "sysdate",
    "system_user", "tan", "tand", "tanh", "time", "time_format", "time_to_sec", "timediff", "timeofday",
    "timestamp", "timestampadd", "timestampdiff", "to_ascii", "to_base64", "to_char", "to_date", "to_days",
    "to_hex", "to_json", "to_jsonb", "to_number", "to_regclass", "to_regnamespace", "to_regproc", "to_regprocedure",
    "to_regrole", "to_regtype", "to_seconds", "to_timestamp", "to_tsquery", "to_tsvector", "transaction_timestamp",
    "translate", "trim", "trim_scale", "trunc", "truncate", "ts_headline", "ts_rank", "ts_rank_cd",
    "tsvector_to_array", "txid_current_if_assigned", "ucase", "unhex", "unix_timestamp", "unnest", "upper",
    "upper_inc", "upper_inf", "user", "utc_date", "utc_time", "utc_timestamp", "uuid", "values", "var_pop",
    "var_samp", "variance", "version", "websearch_to_tsquery", "week", "weekday", "weekofyear", "width_bucket",
    "xmlagg", "xpath", "xpath_exists", "year", "yearweek",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// G4, PO-3
    #[test]
    fn given_a_function_that_is_not_listed_then_it_may_do_anything() {
        assert_eq!(effect("my_function"), Effect::Unknown);
        assert_eq!(effect("query_to_xml"), Effect::Unknown);
        assert_eq!(effect("lower"), Effect::Computes);
        assert_eq!(effect("nextval"), Effect::Writes);
        assert_eq!(effect("set_config"), Effect::Sets);
        for name in [
            "pg_read_file",
            "pg_ls_dir",
            "lo_export",
            "dblink_exec",
            "load_file",
        ] {
            assert_eq!(effect(name), Effect::Reaches, "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_speaks_of_no_function_twice() {
        assert!(
            COMPUTING.is_sorted(),
            "{:?}",
            COMPUTING.windows(2).find(|w| w[0] > w[1])
        );
        for name in WRITING {
            assert!(COMPUTING.binary_search(name).is_err(), "{name}");
        }
        for name in COMPUTING {
            assert_eq!(effect(name), Effect::Computes);
            let reaches = REACHING
                .iter()
                .any(|known| name.starts_with(known.trim_end_matches('*')) && known.ends_with('*'));
            assert!(!reaches, "{name}");
        }
    }
}
