//! Masked columns: shown as policy says, and otherwise not at all.

use std::path::Path;

use super::{
    database::{APP, Shop, complaint},
    statement::demand,
};
use crate::node::finished;

/// Nobody is to read this.
const CANARY: &str = "canary";
/// Addresses are tokens, account numbers end as they do, birthdays are nobody's business.
const POLICY: &str = "@id(\"customers-are-masked\")\n\
    @mask(\"shop.public.customer.email = token | shop.*.customer.iban = partial | *.*.customer.born = null\")\n\
    permit (principal, action, resource);\n";
/// Whatever shows columns of it under other names, or computes from them.
const DATABASE: &str = "SET ROLE app; \
    CREATE TABLE customer (id int, email text, iban varchar(40), born date); \
    INSERT INTO customer VALUES (1, 'canary-ann@example.com', 'DE00canary1234', '1970-01-02'), \
      (2, 'canary-bob@example.com', 'canary', NULL), (3, 'canary-ann@example.com', NULL, '1980-03-04'); \
    CREATE TABLE customer_old (note text) INHERITS (customer); \
    INSERT INTO customer_old VALUES (4, 'canary-old@example.com', 'DE00canary5678', NULL, 'kept'); \
    CREATE VIEW shown AS SELECT id, email AS note FROM customer; \
    CREATE VIEW shown_twice AS SELECT upper(note) AS name FROM shown; \
    CREATE MATERIALIZED VIEW copied AS SELECT email AS note FROM customer; \
    CREATE VIEW harmless AS SELECT upper(name) AS name FROM item; \
    CREATE FUNCTION lookup() RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM customer'; \
    CREATE VIEW looked_up AS SELECT lookup() AS name; \
    CREATE VIEW as_xml AS SELECT query_to_xml('SELECT email FROM customer', true, true, '') AS name; \
    CREATE SCHEMA other; \
    CREATE VIEW other.item AS SELECT id, email AS name FROM public.customer; \
    ANALYZE customer";

/// Each has the columns as they come, so that they are masked, whatever they are called.
const SHOWN: &[&str] = &[
    "SELECT email FROM customer WHERE id < 3 ORDER BY id;",
    "TABLE customer;",
    "SELECT email AS name FROM customer AS item;",
    "SELECT e FROM (SELECT email AS e FROM customer) AS item;",
    "WITH item AS (SELECT email AS name FROM customer) SELECT name FROM item;",
    "SELECT x.email FROM item JOIN customer x ON x.id = item.id;",
    "SELECT email, iban, born FROM customer_old;",
    "BEGIN; DECLARE c CURSOR FOR SELECT email FROM customer; FETCH ALL FROM c; COMMIT;",
];

/// None of these may show a value.
const REFUSED: &[&str] = &[
    "SELECT upper(email) FROM customer;",
    "SELECT email || '' FROM customer;",
    "SELECT max(email) FROM customer;",
    "SELECT count(*) FROM customer;",
    "SELECT c FROM customer c;",
    "SELECT (c.*)::text FROM customer c;",
    "SELECT row_to_json(c) FROM customer c;",
    "SELECT (SELECT email FROM customer LIMIT 1);",
    "SELECT CASE WHEN id = 1 THEN email END FROM customer;",
    "SELECT email FROM customer UNION ALL SELECT '';",
    "SELECT array(SELECT email FROM customer);",
    "SELECT 1 AS one\\; SELECT lower(email) FROM customer;",
    "EXPLAIN SELECT * FROM customer WHERE email > '';",
    "SELECT * FROM shown;",
    "SELECT name FROM shown_twice;",
    "SELECT note FROM copied;",
    "SELECT name FROM looked_up;",
    "SELECT name FROM as_xml;",
    "SELECT name FROM other.item;",
    "SELECT upper(name) FROM other.item;",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customer';",
    "SELECT lookup();",
    "SELECT query_to_xml('SELECT email FROM customer', true, true, '');",
    "COPY customer TO STDOUT;",
    "COPY (SELECT email FROM customer) TO STDOUT;",
    "SELECT id, set_config('application_name', email, false) FROM customer;",
    "SELECT id FROM customer WHERE set_config('application_name', email, false) > '';",
    "INSERT INTO item SELECT id, email FROM customer;",
    "UPDATE item SET name = email FROM customer;",
    "CREATE TEMPORARY TABLE mine AS SELECT email FROM customer;",
    "PREPARE p AS SELECT upper(email) FROM customer\\; EXECUTE p;",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT max(email) FROM customer); END $$;",
];

/// PO-2, GW-11: a column that policy masks is shown as it says, whatever a statement calls it; what cannot be masked
/// is refused, and nothing that the target says about it is passed on; everything else is as ever.
#[test]
fn given_masked_columns_when_they_are_asked_for_in_every_way_then_no_value_of_theirs_is_seen() {
    let shop = Shop::new();
    shop.execute("shop", DATABASE);
    demand(&shop, POLICY);
    let pass = shop.pass(APP);
    let mut psql = shop.start(&pass, &["-F", "|"]);

    psql.type_line("SELECT id, email, iban, born FROM customer WHERE id < 4 ORDER BY id;");
    let first = psql.until("1|tok_");
    let second = psql.until("2|tok_");
    let third = psql.until("3|tok_");
    let token = |line: &str| line.split('|').nth(1).unwrap().to_owned();
    assert_eq!(
        token(&first),
        token(&third),
        "equal values are equal tokens"
    );
    assert_ne!(token(&first), token(&second));
    assert!(first.ends_with("|****1234|"), "{first}");
    assert!(second.ends_with("|****|"), "{second}");
    assert!(third.ends_with("||"), "{third}");

    for (number, statement) in SHOWN.iter().enumerate() {
        psql.type_line(statement);
        let from = psql.seen.len();
        psql.type_line(&format!("SELECT 'shown ' || {number};"));
        psql.until(&format!("shown {number}"));
        let said = psql.seen[from..].join("\n");
        assert!(said.contains("tok_"), "{statement}: {said}");
    }
    for (number, statement) in REFUSED.iter().enumerate() {
        psql.type_line(statement);
        let from = psql.seen.len();
        psql.type_line(&format!("SELECT 'refused ' || {number};"));
        psql.until(&format!("refused {number}"));
        let said = psql.seen[from..].join("\n");
        let is_refused = said.contains("(masked-column)") || said.contains("(read-only)");
        assert!(is_refused, "{statement}: {said}");
    }
    // An error of the target's tells a value, and is not told.
    for statement in [
        "SELECT id FROM customer WHERE email::int = 1;",
        "SELECT id FROM customer WHERE email::regclass = 1::oid;",
    ] {
        psql.type_line(statement);
        psql.until("shown by its code alone");
    }
    // A cursor shows what it was made for, and its fetching says nothing of that.
    psql.type_line("BEGIN; DECLARE c CURSOR FOR SELECT upper(email) FROM customer;");
    psql.type_line("FETCH ALL FROM c;");
    psql.until("(masked-column)");
    psql.type_line("ROLLBACK;");
    // A search path makes another relation of a name.
    psql.type_line("SET search_path = other, public;");
    psql.type_line("SELECT name FROM item;");
    psql.until("(masked-column)");
    psql.type_line("SELECT upper(name) FROM item;");
    psql.until("(masked-column)");
    psql.type_line("RESET search_path;");

    // Whoever may write could copy them past this: nothing is written, whatever it touches, and the server would refuse.
    psql.type_line("UPDATE public.item SET name = name WHERE id = 1;");
    psql.until("(read-only)");
    psql.type_line("SELECT 'writing off: ' || current_setting('default_transaction_read_only');");
    psql.until("writing off: on");

    // What has nothing to do with them is as ever.
    psql.type_line("SELECT 'left ' || count(*) FROM public.item;");
    psql.until("left 3");
    psql.type_line("SELECT name FROM harmless ORDER BY name;");
    psql.until("CHAIR");
    psql.type_line("COPY public.item TO STDOUT;");
    psql.until("desk");
    psql.type_line("\\d customer");
    psql.until("email");
    psql.type_line("SELECT nothing FROM public.item;");
    psql.until("column \"nothing\" does not exist");
    let seen = psql.seen.join("\n");
    psql.end();
    assert!(!seen.contains(CANARY), "a value was seen: {seen}");

    let session = shop.newest();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/postgres/masked.py");
    let mut program = shop.command(&crate::clients::venv("python"), APP, &pass);
    program.arg("-P").arg(script);
    let output = finished(program.spawn().unwrap());
    assert!(output.stdout.ends_with(b"done\n"), "{}", complaint(&output));

    // The recording holds what was shown.
    let evidence = format!("{:?}", shop.operations(&session));
    assert!(evidence.contains("masked-column"), "{evidence}");
    assert!(!evidence.contains("canary-"), "{evidence}");
}
