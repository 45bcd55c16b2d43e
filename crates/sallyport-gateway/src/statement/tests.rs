//! What texts of SQL are read as, by the rules of each server: classes of statements, ways to smuggle one past,
//! names, bounds. Called by the test runner alone.

use proptest::prelude::*;

use super::*;

const POSTGRES: Place<'static> = Place {
    dialect: Dialect::Postgres,
    database: Some("shop"),
    shapes: None,
};
const MYSQL: Place<'static> = Place {
    dialect: Dialect::MySql {
        backslash: Backslash::Escapes,
        quotes: DoubleQuotes::Text,
    },
    database: Some("shop"),
    shapes: None,
};

fn verb(sql: &str) -> Verb {
    read(sql.as_bytes(), POSTGRES).verb()
}

fn relations(sql: &str) -> Vec<String> {
    let facts = read(sql.as_bytes(), POSTGRES);
    facts.relations.into_iter().collect()
}

/// PO-3: what each class of statement is for policies.
#[test]
fn given_a_statement_then_its_verb_is_what_it_does() {
    for (sql, expected) in [
        ("", Verb::Read),
        ("SELECT 1", Verb::Read),
        (
            "select lower(name) from customers where id = $1",
            Verb::Read,
        ),
        (
            "SELECT a FROM t WHERE b IN (SELECT b FROM u) ORDER BY 1 LIMIT 3",
            Verb::Read,
        ),
        ("(SELECT 1) UNION SELECT 2", Verb::Read),
        ("WITH x AS (SELECT 1) SELECT * FROM x", Verb::Read),
        ("VALUES (1), (2)", Verb::Read),
        ("TABLE customers", Verb::Read),
        ("SHOW search_path", Verb::Read),
        ("EXPLAIN SELECT 1", Verb::Read),
        ("EXPLAIN DELETE FROM t", Verb::Read),
        ("EXPLAIN (FORMAT json) SELECT 1", Verb::Read),
        ("COPY customers TO STDOUT", Verb::Read),
        ("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)", Verb::Read),
        ("FETCH 100 FROM c", Verb::Read),
        ("BEGIN", Verb::Session),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            Verb::Session,
        ),
        ("COMMIT; BEGIN; SELECT 1", Verb::Session),
        (
            "SELECT pg_catalog.array_to_string(array(SELECT name FROM t), ',')",
            Verb::Read,
        ),
        ("SET statement_timeout = 0", Verb::Session),
        ("SET TimeZone TO 'UTC'", Verb::Session),
        ("RESET ALL", Verb::Session),
        ("DECLARE c CURSOR FOR SELECT 1", Verb::Session),
        ("SELECT set_config('search_path', '', false)", Verb::Session),
        ("INSERT INTO t VALUES (1)", Verb::Write),
        ("UPDATE t SET a = 1 WHERE b = 2", Verb::Write),
        ("DELETE FROM t WHERE b = 2 RETURNING *", Verb::Write),
        (
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
            Verb::Write,
        ),
        ("TRUNCATE t", Verb::Write),
        ("COPY t FROM STDIN", Verb::Write),
        ("LOCK TABLE t", Verb::Write),
        ("SELECT nextval('s')", Verb::Write),
        ("CREATE TABLE t (a int)", Verb::Ddl),
        ("DROP TABLE a, b", Verb::Ddl),
        ("ALTER TABLE t ADD COLUMN b int", Verb::Ddl),
        ("CREATE UNIQUE INDEX i ON t (a)", Verb::Ddl),
        ("COMMENT ON TABLE t IS 'x'", Verb::Ddl),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            Verb::Ddl,
        ),
        ("GRANT SELECT ON t TO PUBLIC", Verb::Dcl),
        ("CREATE ROLE r", Verb::Dcl),
        ("ALTER ROLE r SUPERUSER", Verb::Dcl),
        ("ALTER SYSTEM SET log_statement = 'none'", Verb::Admin),
        ("VACUUM", Verb::Admin),
        ("DO $$ BEGIN END $$", Verb::Admin),
        ("CREATE EXTENSION plpython3u", Verb::Admin),
        ("SET log_statement = 'none'", Verb::Admin),
        ("SET session_replication_role = replica", Verb::Admin),
        (
            "SELECT set_config('log_statement', 'none', false)",
            Verb::Admin,
        ),
        ("no sql at all", Verb::Unknown),
        ("SELECT my_function()", Verb::Unknown),
        ("CALL p()", Verb::Unknown),
        ("EXECUTE p", Verb::Unknown),
    ] {
        assert_eq!(verb(sql), expected, "{sql}");
    }
}

/// G4: the forms in which more is done than a question asks. None is a question.
#[test]
fn given_a_way_to_smuggle_then_the_statement_is_as_grave_as_what_it_hides() {
    for (sql, least) in [
        ("SELECT 1; DROP TABLE t", Verb::Ddl),
        ("SELECT 1;;DROP TABLE t;", Verb::Ddl),
        ("SELECT 1 /* ; */ ; DROP TABLE t", Verb::Ddl),
        ("SELECT 1 /* /* */ ; */ ; DROP TABLE t", Verb::Ddl),
        ("SELECT 1 -- ;\n; DROP TABLE t", Verb::Ddl),
        ("SELECT 1 -- ;\r; DROP TABLE t", Verb::Ddl),
        ("SELECT '/*'; DROP TABLE t; SELECT '*/'", Verb::Ddl),
        ("SELECT $$/*$$; DROP TABLE t; SELECT $$*/$$", Verb::Ddl),
        (
            "SELECT $a$ $$ $a$; DROP TABLE t; SELECT $a$ $$ $a$",
            Verb::Ddl,
        ),
        (
            "SELECT \"/*\" FROM t; DROP TABLE t; SELECT \"*/\" FROM t",
            Verb::Ddl,
        ),
        ("SELECT E'\\''; DROP TABLE t; --'", Verb::Ddl),
        ("SELECT '\\''; DROP TABLE t; --'", Verb::Ddl),
        ("SELECT 'a\\'; DROP TABLE t; --'", Verb::Ddl),
        ("SELECT U&'\\0027'; DROP TABLE t", Verb::Ddl),
        ("SELECT U&\"d\\0061t\" FROM t", Verb::Unknown),
        (
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            Verb::Write,
        ),
        (
            "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) TABLE x",
            Verb::Write,
        ),
        (
            "SELECT * FROM (WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT a FROM x) y",
            Verb::Write,
        ),
        ("EXPLAIN ANALYZE DELETE FROM t", Verb::Write),
        ("EXPLAIN (ANALYZE) DELETE FROM t", Verb::Write),
        (
            "EXPLAIN (COSTS off, ANALYZE true) INSERT INTO t VALUES (1)",
            Verb::Write,
        ),
        ("PREPARE p AS DELETE FROM t", Verb::Write),
        ("PREPARE p (int) AS DELETE FROM t WHERE a = $1", Verb::Write),
        ("SELECT * INTO u FROM t", Verb::Ddl),
        ("CREATE TABLE u AS SELECT 1", Verb::Ddl),
        ("SELECT * FROM t FOR UPDATE", Verb::Write),
        ("SELECT * FROM t FOR NO KEY UPDATE", Verb::Write),
        ("SELECT * FROM t FOR SHARE", Verb::Write),
        (
            "DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE",
            Verb::Write,
        ),
        ("SET ROLE postgres", Verb::Admin),
        ("SET LOCAL ROLE postgres", Verb::Admin),
        ("SET SESSION ROLE postgres", Verb::Admin),
        ("SET \"role\" TO postgres", Verb::Admin),
        ("SET role = postgres", Verb::Admin),
        ("SET SESSION AUTHORIZATION postgres", Verb::Admin),
        ("SET SESSION SESSION AUTHORIZATION postgres", Verb::Admin),
        ("SET session_authorization = postgres", Verb::Admin),
        ("RESET ROLE", Verb::Admin),
        ("RESET SESSION AUTHORIZATION", Verb::Admin),
        (
            "SELECT set_config('ro' || 'le', 'postgres', false)",
            Verb::Unknown,
        ),
        ("SELECT set_config($1, 'postgres', false)", Verb::Unknown),
        (
            "SELECT * FROM set_config('role', 'postgres', false)",
            Verb::Admin,
        ),
        ("CALL p()", Verb::Admin),
        (
            "DO LANGUAGE plpgsql 'BEGIN DELETE FROM t; END'",
            Verb::Admin,
        ),
        ("COPY t TO PROGRAM 'curl -T - x'", Verb::Admin),
        ("COPY (SELECT 1) TO PROGRAM 'x'", Verb::Admin),
        ("COPY t FROM PROGRAM 'x'", Verb::Admin),
        ("COPY t TO '/tmp/x'", Verb::Admin),
        ("COPY t FROM '/etc/passwd'", Verb::Admin),
        ("COPY (DELETE FROM t RETURNING *) TO STDOUT", Verb::Write),
        ("SELECT pg_read_file('/etc/passwd')", Verb::Admin),
        ("SELECT pg_catalog.pg_read_file('/etc/passwd')", Verb::Admin),
        ("SELECT \"pg_read_file\"('/etc/passwd')", Verb::Admin),
        ("SELECT * FROM pg_ls_dir('.')", Verb::Admin),
        ("SELECT lo_export(1, '/tmp/x')", Verb::Admin),
        ("SELECT lo_import('/etc/passwd')", Verb::Admin),
        ("SELECT dblink_exec('', 'DROP TABLE t')", Verb::Admin),
        (
            "SELECT * FROM dblink('', 'SELECT 1') AS t(a int)",
            Verb::Admin,
        ),
        ("SELECT pg_terminate_backend(1)", Verb::Admin),
        (
            "SELECT query_to_xml('DELETE FROM t RETURNING *', true, true, '')",
            Verb::Unknown,
        ),
        ("SELECT evil.lower('x')", Verb::Unknown),
        (
            "SELECT count(*) FILTER (WHERE my_function(a)) FROM t",
            Verb::Unknown,
        ),
        ("SELECT 1 ORDER BY my_function()", Verb::Unknown),
        ("SELECT 1 LIMIT my_function()", Verb::Unknown),
        ("VALUES (my_function())", Verb::Unknown),
        ("SELECT * FROM t JOIN my_function() ON true", Verb::Unknown),
        ("SELECT * FROM ROWS FROM (my_function())", Verb::Unknown),
        ("SELECT * FROM LATERAL my_function() x", Verb::Unknown),
        (
            "SELECT CASE WHEN true THEN my_function() END",
            Verb::Unknown,
        ),
        ("SELECT ARRAY[my_function()]", Verb::Unknown),
        (
            "SELECT sum(a) OVER (ORDER BY my_function()) FROM t",
            Verb::Unknown,
        ),
        (
            "SELECT a FROM t WINDOW w AS (ORDER BY my_function())",
            Verb::Unknown,
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS 'x'",
            Verb::Admin,
        ),
        (
            "CREATE FUNCTION f(language sql) RETURNS int LANGUAGE c AS 'x'",
            Verb::Admin,
        ),
        ("CREATE LANGUAGE index", Verb::Admin),
        ("LOAD 'x'", Verb::Admin),
        ("SELECT 1\u{a0}FROM t", Verb::Unknown),
        ("SELECT 1INTO u FROM t", Verb::Unknown),
        ("SELECT ';", Verb::Unknown),
        ("SELECT 1 /*", Verb::Unknown),
        ("SELECT (1; DROP TABLE t)", Verb::Unknown),
        (
            "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; DELETE FROM u)",
            Verb::Unknown,
        ),
        ("SELECT 1 \\; DROP TABLE t", Verb::Unknown),
    ] {
        let found = verb(sql);
        assert!(found >= least, "{sql}: {found:?}");
    }
    for bytes in [
        &b"SELECT '\xff'"[..],
        b"SELECT 1\0; DROP TABLE t",
        b"\xef\xbb\xbfSELECT 1",
    ] {
        assert_eq!(read(bytes, POSTGRES).verb(), Verb::Unknown, "{bytes:?}");
    }
}

/// G4: what quotes and comments hold is no statement.
#[test]
fn given_grave_words_in_texts_names_and_comments_then_they_do_nothing() {
    for sql in [
        "SELECT 'DROP TABLE t; --'",
        "SELECT '; DELETE FROM t' FROM u",
        "SELECT $$; DROP TABLE t$$",
        "SELECT $fn$ $$ ; $fn$",
        "SELECT \"drop table\" FROM t",
        "SELECT 1 /* ; DROP TABLE t */",
        "SELECT 1 -- ; DROP TABLE t",
        "SELECT E'it\\'s; DROP TABLE t'",
        "SELECT 'C:\\temp\\x'",
        "SELECT 'it''s'",
    ] {
        assert_eq!(verb(sql), Verb::Read, "{sql}");
    }
}

/// PO-3
#[test]
fn given_names_then_relations_are_spelt_as_policies_spell_them() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT * FROM public.customers", &["shop.public.customers"]),
        (
            "SELECT * FROM shop.public.customers",
            &["shop.public.customers"],
        ),
        ("SELECT * FROM customers", &["shop.*.customers"]),
        (
            "SELECT * FROM Public.CUSTOMERS c",
            &["shop.public.customers"],
        ),
        (
            "SELECT * FROM \"Public\".\"Cus.tomers\"",
            &["shop.Public.\"Cus.tomers\""],
        ),
        ("TABLE public.customers", &["shop.public.customers"]),
        ("COPY public.t (a, b) TO STDOUT", &["shop.public.t"]),
        ("SELECT 1", &[]),
        ("SELECT * FROM generate_series(1, 3)", &[]),
        (
            "SELECT a FROM x.t WHERE b IN (SELECT b FROM x.u)",
            &["shop.x.t", "shop.x.u"],
        ),
        (
            "INSERT INTO x.t SELECT * FROM x.u",
            &["shop.x.t", "shop.x.u"],
        ),
        (
            "UPDATE x.t SET a = 1 FROM x.u WHERE t.a = u.a",
            &["shop.x.t", "shop.x.u"],
        ),
        (
            "DELETE FROM x.t USING x.u WHERE t.a = u.a",
            &["shop.x.t", "shop.x.u"],
        ),
        ("DROP TABLE x.t, x.u", &["shop.x.t", "shop.x.u"]),
        ("ALTER TABLE x.t DROP COLUMN a", &["shop.x.t"]),
        (
            "CREATE TABLE x.t AS SELECT * FROM x.u",
            &["shop.x.t", "shop.x.u"],
        ),
        ("TRUNCATE x.t, x.u", &["shop.x.t", "shop.x.u"]),
        ("EXPLAIN ANALYZE SELECT * FROM x.t", &["shop.x.t"]),
        ("GRANT SELECT ON x.t TO PUBLIC", &["*"]),
        ("SET search_path = secret", &["*"]),
        ("SELECT my_function()", &["*"]),
        // What a WITH defines is no relation; what only looks like it is.
        (
            "WITH t AS (SELECT * FROM x.u) SELECT * FROM t",
            &["shop.x.u"],
        ),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", &["shop.*.t"]),
        (
            "WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t",
            &[],
        ),
        (
            "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b",
            &["shop.*.b"],
        ),
        (
            "SELECT * FROM t, (WITH t AS (SELECT 1) SELECT * FROM t) x",
            &["shop.*.t"],
        ),
        (
            "WITH t AS (SELECT 1) DELETE FROM t WHERE a = 1",
            &["shop.*.t"],
        ),
        ("WITH t AS (SELECT 1) SELECT * FROM x.t", &["shop.x.t"]),
    ];
    for (sql, expected) in cases {
        assert_eq!(relations(sql), *expected, "{sql}");
    }
    assert_eq!(relations("SELECT * FROM ONLY customers"), [ANY_RELATION]);
    let long = format!("SELECT * FROM {}", "x".repeat(64));
    assert_eq!(relations(&long), [ANY_RELATION], "the server cuts it");
    let many: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    assert_eq!(
        relations(&format!("SELECT * FROM {}", many.join(", "))),
        [ANY_RELATION]
    );
}

/// PO-3
#[test]
fn given_a_change_without_a_condition_on_rows_then_it_is_unfiltered() {
    for (sql, expected) in [
        ("DELETE FROM t", true),
        ("DELETE FROM t WHERE true", true),
        ("DELETE FROM t WHERE 1 = 1", true),
        ("UPDATE t SET a = 1", true),
        ("TRUNCATE t", true),
        (
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x WHERE a = 1",
            true,
        ),
        ("DELETE FROM t WHERE a = 1; DELETE FROM u", true),
        ("EXPLAIN ANALYZE DELETE FROM t", true),
        ("DELETE FROM t WHERE a = 1", false),
        ("UPDATE t SET a = 1 WHERE b IS NULL", false),
        ("INSERT INTO t VALUES (1)", false),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2",
            false,
        ),
        ("SELECT * FROM t", false),
        ("EXPLAIN DELETE FROM t", false),
    ] {
        assert_eq!(
            read(sql.as_bytes(), POSTGRES).is_unfiltered,
            expected,
            "{sql}"
        );
    }
}

/// GW-12, G4
#[test]
fn given_statements_that_make_transactions_write_then_they_are_told_from_others() {
    for (sql, expected) in [
        ("BEGIN READ WRITE", true),
        ("BEGIN; SET TRANSACTION READ WRITE", true),
        ("START TRANSACTION READ /**/ WRITE", true),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            true,
        ),
        ("SET default_transaction_read_only = off", true),
        ("SET LOCAL transaction_read_only TO off", true),
        (
            "SELECT set_config('transaction_read_only', 'off', true)",
            true,
        ),
        ("RESET default_transaction_read_only", true),
        ("BEGIN READ ONLY", false),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            false,
        ),
        ("SELECT 'read write'", false),
    ] {
        assert_eq!(
            read(sql.as_bytes(), POSTGRES).sets_access_mode,
            expected,
            "{sql}"
        );
    }
}

/// G4, by MySQL's rules.
#[test]
fn given_mysql_then_its_own_comments_quotes_and_statements_count() {
    for (sql, least) in [
        ("SELECT 1", Verb::Read),
        ("SELECT 1 # ; DROP TABLE t\n; DROP TABLE t", Verb::Ddl),
        ("SELECT 1 /*! INTO OUTFILE 'x' */", Verb::Unknown),
        ("/*!50000 DROP TABLE t */", Verb::Unknown),
        ("/*M!100000 DROP TABLE t */", Verb::Unknown),
        (
            "SELECT /*+ SET_VAR(sql_mode='ANSI_QUOTES') */ 1",
            Verb::Unknown,
        ),
        ("SELECT 1--1", Verb::Unknown),
        ("SELECT 'it\\'s'; DROP TABLE t", Verb::Ddl),
        ("SELECT \"it\\\"s\"; DROP TABLE t", Verb::Ddl),
        ("SELECT * FROM t INTO OUTFILE '/tmp/x'", Verb::Admin),
        ("SELECT load_file('/etc/passwd')", Verb::Admin),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", Verb::Admin),
        ("SELECT * FROM t FOR UPDATE", Verb::Write),
        ("SELECT * FROM t LOCK IN SHARE MODE", Verb::Write),
        ("REPLACE INTO t VALUES (1)", Verb::Write),
        ("PREPARE p FROM 'DROP TABLE t'", Verb::Unknown),
        ("HANDLER t OPEN", Verb::Unknown),
        ("SET GLOBAL general_log = 0", Verb::Admin),
        ("SET @@global.general_log = 0", Verb::Admin),
        ("SET autocommit = 1, GLOBAL general_log = 0", Verb::Admin),
        ("SET sql_mode = 'ANSI_QUOTES'; SELECT \"x\"", Verb::Unknown),
        ("SET x = sleep(5)", Verb::Unknown),
        ("SHOW TABLES WHERE sleep(5)", Verb::Unknown),
        ("CREATE USER a", Verb::Dcl),
        ("INSTALL PLUGIN x SONAME 'y'", Verb::Admin),
        ("BEGIN NOT ATOMIC DROP TABLE t; END", Verb::Unknown),
        ("SELECT sleep(5)", Verb::Unknown),
    ] {
        let found = read(sql.as_bytes(), MYSQL).verb();
        assert!(found >= least, "{sql}: {found:?}");
    }
    for (sql, expected) in [
        ("SELECT 1", Verb::Read),
        (
            "SELECT `a` FROM `t` WHERE b = \"DROP TABLE t; --\" AND c = ?",
            Verb::Read,
        ),
        ("SELECT @@version_comment LIMIT 1", Verb::Read),
        ("SHOW TABLES", Verb::Read),
        ("SET NAMES utf8mb4", Verb::Session),
        ("SET autocommit=0, time_zone='+00:00'", Verb::Session),
        (
            "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = 1",
            Verb::Write,
        ),
        ("SELECT REPLACE(a, 'x', 'y') FROM t", Verb::Read),
    ] {
        assert_eq!(read(sql.as_bytes(), MYSQL).verb(), expected, "{sql}");
    }
    let facts = read(b"SELECT * FROM a.T, u", MYSQL);
    assert_eq!(
        facts.relations,
        ["a.T".to_owned(), "shop.u".to_owned()].into()
    );
    let unsure = Place {
        dialect: Dialect::MySql {
            backslash: Backslash::Unsure,
            quotes: DoubleQuotes::Unsure,
        },
        database: None,
        shapes: None,
    };
    assert_eq!(read(b"SELECT 'it\\'s'", unsure).verb(), Verb::Unknown);
    assert_eq!(read(b"SELECT \"sleep\"(5)", unsure).verb(), Verb::Unknown);
    assert_eq!(
        read(b"SELECT * FROM u", unsure).relations,
        ["*.u".to_owned()].into()
    );
}

/// E2: what would need much work or a deep stack is not read; a stack of 512 KiB is enough for the rest.
#[test]
fn given_the_deepest_and_longest_texts_then_reading_is_bounded() {
    let on_a_small_stack = |sql: String| {
        std::thread::Builder::new()
            .stack_size(512 * 1024)
            .spawn(move || (read(sql.as_bytes(), POSTGRES), read(sql.as_bytes(), MYSQL)))
            .unwrap()
            .join()
            .unwrap()
            .0
            .verb()
    };
    for deep in [20, 40, 1_000, 100_000] {
        let nested = format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep));
        let found = on_a_small_stack(nested);
        assert!(deep < 1_000 || found == Verb::Unknown, "{deep}: {found:?}");
    }
    for (first, next) in [
        ("1", "+1"),
        ("a", " AND a"),
        ("1", "::int"),
        ("a", "[1]"),
        ("", "NOT "),
    ] {
        on_a_small_stack(format!("SELECT {first}{}", next.repeat(900)));
        let found = on_a_small_stack(format!("SELECT {first}{}", next.repeat(20_000)));
        assert_eq!(found, Verb::Unknown, "{next}");
    }
    on_a_small_stack(format!("SELECT 1{}", " UNION SELECT 1".repeat(900)));
    on_a_small_stack("SELECT 1;".repeat(900));
    let rows = format!(
        "INSERT INTO t VALUES (1, 'a'){}",
        ", (2, 'b')".repeat(5_000)
    );
    assert_eq!(on_a_small_stack(rows), Verb::Write);
    let long = format!("SELECT '{}'", "x".repeat(TEXT_BYTES_MAX));
    assert_eq!(on_a_small_stack(long), Verb::Unknown);
}

proptest! {
    /// G4, E2
    #[test]
    fn reading_anything_never_panics_and_loses_no_statement(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
    }

    /// G4: made of what statements are made of, so that it gets further.
    #[test]
    fn given_pieces_of_sql_in_any_order_then_no_statement_is_lost(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "1", "'", "''", "\"", "`", "$$", "$a$", "/*", "*/", "--", "\n", "\r", "\\", "E'", "U&'",
            ";", "(", ")", "FROM", "t", "WITH", "x", "AS", "INTO", "WHERE", "a", "=", ",", "#", "/*!", "UNION",
            "lower", "BEGIN", "EXPLAIN", "ANALYZE", "COPY", "TO", "STDOUT", "[", "]", "::", ".", "$1", "é",
        ]), 0..24),
        glue in prop::sample::select(vec!["", " "]),
    ) {
        fuzz(pieces.join(glue).as_bytes());
    }

    /// G4: whatever a text holds, what is written behind it in quotes stays in quotes.
    #[test]
    fn given_any_value_quoted_as_drivers_do_then_it_is_data(value in "[ -~é\n]{0,40}") {
        let sql = format!("SELECT * FROM t WHERE a = '{}'", value.replace('\'', "''"));
        let facts = read(sql.as_bytes(), POSTGRES);
        prop_assert!(matches!(facts.verb(), Verb::Read | Verb::Unknown));
        if !value.contains('\\') {
            prop_assert_eq!(facts.verb(), Verb::Read, "{}", sql);
        }
    }

    /// PO-3, E2: a statement that is known by its shape is read as it would be read for the first time, whatever
    /// was read before it.
    #[test]
    fn given_statements_of_known_shapes_then_they_are_read_as_for_the_first_time(
        picks in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "SELECT # FROM @ WHERE a = #",
                    "SELECT # FROM \"@\" WHERE a = '@'",
                    "SELECT set_config('@', '#', true)",
                    "SELECT set_config('search_path', '@', true)",
                    "SELECT set_config('transaction_read_only', '#', true)",
                    "DELETE FROM @ WHERE #",
                    "DELETE FROM t WHERE @",
                    "DELETE FROM t WHERE '@'",
                    "UPDATE t SET a = # WHERE @ = #",
                    "WITH @ AS (SELECT #) SELECT * FROM a, b",
                    "SELECT @(#)",
                    "SELECT \"@\"(#)",
                    "SELECT #.# FROM @; DROP TABLE @",
                    "SELECT 1 @ FROM t",
                    "SELECT # LIMIT #",
                    "SELECT a.@ FROM a",
                    "INSERT INTO @ VALUES (#, '@')",
                ]),
                prop::sample::select(vec!["0", "1", "42", "1.5", "1e3", "99999999999999999999", "0x1f"]),
                prop::sample::select(vec!["a", "b", "A", "only", "into", "pg_sleep", "nextval", "lower", "true"]),
            ),
            1..24,
        ),
        is_postgres: bool,
    ) {
        let shapes = Shapes::default();
        for (template, number, word) in picks {
            let sql = template.replace('#', number).replace('@', word);
            let anew = if is_postgres { POSTGRES } else { MYSQL };
            let known = Place { shapes: Some(&shapes), ..anew };
            prop_assert_eq!(read(sql.as_bytes(), known), read(sql.as_bytes(), anew), "{}", sql);
        }
    }
}

/// E2: what is remembered is bounded, and a session elsewhere knows nothing of it.
#[test]
fn given_many_shapes_or_another_place_then_nothing_wrong_is_remembered() {
    let shapes = Shapes::default();
    for database in ["shop", "stock"] {
        let place = Place {
            database: Some(database),
            shapes: Some(&shapes),
            ..POSTGRES
        };
        for table in 0..500 {
            let sql = format!("SELECT 1 FROM t{table}");
            let relation = format!("{database}.*.t{table}");
            assert_eq!(
                read(sql.as_bytes(), place).relations,
                BTreeSet::from([relation])
            );
            assert!(shapes.len() <= 128);
        }
    }
}

/// G3, G4, PO-3: what would make the rest of a message read by other rules, or run what it does not look like,
/// is not taken for something harmless.
#[test]
fn given_what_changes_reading_or_runs_in_disguise_then_it_is_grave() {
    for sql in [
        "SET client_encoding = 'SJIS'",
        "SET client_encoding TO 'gbk'",
        "SET SESSION client_encoding TO big5",
        "SET NAMES 'SJIS'",
        "EXPLAIN (\"analyze\") DELETE FROM t",
        "EXPLAIN (VERBOSE, \"analyze\" true) DELETE FROM t",
        "COPY t FROM STDIN WHERE set_config('role', 'dba', false) IS NOT NULL",
        "CREATE TABLE x AS SELECT set_config('role', 'dba', false)",
        "CREATE TABLE x AS SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "CREATE TABLE x AS EXECUTE p",
        "CREATE MATERIALIZED VIEW x AS SELECT anything(1) WITH NO DATA",
        "ALTER TABLE t ALTER c TYPE text USING anything(c)",
    ] {
        assert!(verb(sql) >= Verb::Admin, "{sql}: {:?}", verb(sql));
    }
    for (sql, expected) in [
        ("SET client_encoding = 'UTF8'", Verb::Session),
        ("SET client_encoding TO DEFAULT", Verb::Session),
        ("RESET client_encoding", Verb::Session),
        ("SET NAMES 'utf-8'", Verb::Session),
        ("EXPLAIN (VERBOSE, COSTS off) DELETE FROM t", Verb::Read),
        ("COPY t FROM STDIN", Verb::Write),
        (
            "CREATE TABLE x AS SELECT lower(a) FROM t WITH NO DATA",
            Verb::Ddl,
        ),
        ("CREATE VIEW x AS SELECT anything(1)", Verb::Ddl),
        ("ALTER TABLE t ALTER c TYPE text USING lower(c)", Verb::Ddl),
    ] {
        assert_eq!(verb(sql), expected, "{sql}");
    }
}

/// G3, G4: the same with MySQL's ways.
#[test]
fn given_a_mysql_setting_in_disguise_then_what_follows_is_not_read_as_before() {
    for sql in [
        "SET `sql_mode`='NO_BACKSLASH_ESCAPES'; SELECT '\\'; DROP TABLE t; -- '",
        "SET @@session.`sql_mode`='ANSI_QUOTES'; SELECT 1",
        "SET `character_set_client`=gbk; SELECT 1",
        "SET NAMES utf8mb4, GLOBAL general_log=0",
        "SET NAMES utf8mb4, @a = anything()",
        "SET PASSWORD = 'x', GLOBAL general_log=0",
        "SELECT password, @y\u{e0}FROM secret",
    ] {
        let facts = read(sql.as_bytes(), MYSQL);
        assert!(facts.verb() >= Verb::Admin, "{sql}: {facts:?}");
    }
    for sql in [
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET autocommit=1; SELECT 1",
        "SET @a = 1, @b = 2; SELECT @a",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT 1",
    ] {
        let facts = read(sql.as_bytes(), MYSQL);
        assert!(facts.verb() <= Verb::Session, "{sql}: {facts:?}");
    }
}
