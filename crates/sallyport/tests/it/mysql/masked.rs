//! Masked columns: shown as policy says, and otherwise not at all.

use std::path::Path;

use super::{database::APP, drivers::program, limits::shop};
use crate::node::finished;

/// Nobody is to read this.
const CANARY: &str = "canary";
/// Addresses are tokens, account numbers end as they do, birthdays are nobody's business.
const POLICY: &str = "@id(\"customers-are-masked\")\n\
    @mask(\"shop.*.customer.email = token | *.*.Customer.IBAN = partial | *.*.customer.born = null | *.*.staff.code = null\")\n\
    permit (principal, action, resource);\n";
/// Whatever shows columns of it under other names, or computes from them.
const DATABASE: &str = "CREATE DATABASE pay; CREATE TABLE shop.customer (id int PRIMARY KEY, email varchar(80), iban text, born date, \
      kind enum('a', 'b'), long_one longtext); \
    INSERT INTO shop.customer VALUES (1, 'canary-ann@example.com', 'DE00canary1234', '1970-01-02', 'a', ''), \
      (2, 'canary-bob@example.com', 'canary', NULL, 'b', ''), (3, 'canary-ann@example.com', NULL, '1980-03-04', NULL, ''), \
      (4, NULL, NULL, NULL, NULL, repeat('canary', 400000)); \
    CREATE TABLE shop.big AS SELECT repeat('x', 2000000) AS long_one; \
    CREATE VIEW shop.shown AS SELECT id, email AS note FROM shop.customer; \
    CREATE VIEW shop.shown_twice AS SELECT upper(note) AS name FROM shop.shown; \
    CREATE ALGORITHM = TEMPTABLE VIEW shop.shown_apart AS SELECT email AS name FROM shop.customer; \
    CREATE VIEW shop.harmless AS SELECT upper(name) AS name FROM shop.item; \
    CREATE FUNCTION shop.lookup() RETURNS text READS SQL DATA RETURN (SELECT max(email) FROM shop.customer); \
    CREATE FUNCTION shop.initcap() RETURNS text READS SQL DATA RETURN (SELECT max(email) FROM shop.customer); \
    CREATE PROCEDURE shop.tell() SELECT email FROM shop.customer; \
    CREATE VIEW shop.looked_up AS SELECT shop.lookup() AS name; \
    CREATE DATABASE other; GRANT SELECT ON other.* TO app@'%'; GRANT SELECT ON mysql.column_stats TO app@'%'; \
    CREATE VIEW other.item AS SELECT id, email AS name FROM shop.customer; \
    CREATE TABLE pay.staff (id int PRIMARY KEY, code varchar(80)); INSERT INTO pay.staff VALUES (1, 'canary-code'); \
    CREATE VIEW shop.staff_shown AS SELECT id, code AS name FROM pay.staff; GRANT SELECT (id) ON pay.staff TO app@'%'; \
    CREATE TABLE shop.part (id int, email varchar(80)) ENGINE = MyISAM; \
    INSERT INTO shop.part VALUES (1, 'canary-in-a-part'); \
    CREATE TABLE shop.parts (id int, email varchar(80)) ENGINE = MERGE UNION = (shop.part)";

/// Each has the columns as they come, so that they are masked, whatever they are called.
const SHOWN: &[&str] = &[
    "SELECT email FROM customer WHERE id < 3 ORDER BY id;",
    "SELECT id, email, born FROM customer;",
    "SELECT email AS name FROM customer AS item;",
    "SELECT DISTINCT email AS id FROM customer ORDER BY born;",
    "SELECT x.email FROM item JOIN customer x ON x.id = item.id;",
    "SELECT item.id, email AS name FROM customer NATURAL JOIN item;",
    "SELECT SQL_BIG_RESULT SQL_BUFFER_RESULT email AS id FROM customer GROUP BY email;",
    "SELECT EMAIL `select` FROM shop.customer /* FROM item */ WHERE id = 1;",
    "SELECT (email) AS kind FROM customer HAVING kind IS NOT NULL;",
];

/// None of these may show a value.
const REFUSED: &[&str] = &[
    "SELECT upper(email) FROM customer;",
    "SELECT concat(email, '') FROM customer;",
    "SELECT BINARY email AS id FROM customer;",
    "SELECT CONVERT(email USING utf8mb4) FROM customer;",
    "SELECT max(email) FROM customer;",
    "SELECT count(*) FROM customer;",
    "SELECT group_concat(email) FROM customer GROUP BY kind;",
    "SELECT CASE WHEN id = 1 THEN email END FROM customer;",
    "SELECT if(1, email, '') AS id FROM customer;",
    "SELECT first_value(email) OVER (ORDER BY id) FROM customer;",
    "SELECT email, count(*) FROM customer GROUP BY email WITH ROLLUP;",
    "SELECT (SELECT email FROM customer LIMIT 1);",
    "SELECT name FROM item WHERE name = (SELECT email FROM customer LIMIT 1);",
    "SELECT e FROM (SELECT email AS e FROM customer) AS item;",
    "SELECT name FROM (SELECT email AS name FROM customer LIMIT 9) AS item;",
    "WITH item AS (SELECT email AS name FROM customer) SELECT name FROM item;",
    "WITH a AS (SELECT email FROM customer), customer AS (SELECT 1 AS email) SELECT email FROM a;",
    "SELECT name FROM item UNION ALL SELECT email FROM customer;",
    "(SELECT email FROM customer);",
    "SELECT j.name FROM customer, JSON_TABLE(JSON_ARRAY(email), '$[*]' COLUMNS (name text PATH '$')) AS j;",
    "SELECT email FROM customer PROCEDURE ANALYSE();",
    "EXPLAIN EXTENDED SELECT email FROM customer WHERE id = 1;",
    "ANALYZE FORMAT=JSON SELECT email FROM customer;",
    "SHOW WARNINGS;",
    "SHOW TABLES WHERE @kept := (SELECT max(email) FROM customer);",
    "SELECT note FROM shown;",
    "SELECT name FROM shown_twice;",
    "SELECT name FROM shown_apart;",
    "SELECT name FROM looked_up;",
    "SELECT name FROM other.item;",
    "SELECT upper(name) FROM other.item;",
    "SELECT email FROM parts;",
    "SELECT min_value FROM mysql.column_stats;",
    "SELECT lookup();",
    "SELECT initcap();",
    "CALL tell();",
    "HANDLER customer OPEN;",
    "SELECT email FROM customer INTO OUTFILE '/tmp/sallyport-masked';",
    "SELECT email FROM customer LIMIT 1 INTO @kept;",
    "SELECT @kept := email FROM customer;",
    "SET @kept = (SELECT max(email) FROM customer);",
    "DO get_lock((SELECT max(email) FROM customer), 0);",
    "INSERT INTO item SELECT id, email FROM customer;",
    "UPDATE item, customer SET item.name = customer.email WHERE item.id = customer.id;",
    "CREATE TEMPORARY TABLE mine AS SELECT email FROM customer;",
    "CREATE VIEW mine AS SELECT email FROM customer;",
    "PREPARE p FROM 'SELECT upper(email) FROM customer';",
    "EXECUTE IMMEDIATE 'SELECT upper(email) FROM customer';",
    "SELECT email FROM customer FOR UPDATE;",
    "SELECT (email) AS kind FROM customer HAVING kind > '';",
    "SELECT id FROM customer WHERE email LIKE '%a%';",
    "SELECT id FROM customer JOIN information_schema.COLLATIONS a ON a.ID = ORD(SUBSTR(email, 8, 1));",
    "SELECT id FROM customer WHERE pow(ord(email), 1000000) > 1;",
    "SELECT id FROM customer WHERE `last_insert_id`(ord(email)) > 0;",
    "SELECT id FROM pay.staff;",
    "SELECT name FROM staff_shown;",
    "SET NAMES utf16;",
    "DESC SELECT email FROM customer;",
    "SELECT email /*! , upper(email) */ FROM customer;",
    "SELECT email /*M! , upper(email) */ FROM customer;",
];

/// PO-2, GW-11: a column that policy masks is shown as it says, whatever a statement calls it; what cannot be masked
/// is refused, and nothing that the target says about it is passed on; everything else is as ever.
#[test]
fn given_masked_columns_when_they_are_asked_for_in_every_way_then_no_value_of_theirs_is_seen() {
    let shop = shop(POLICY);
    shop.execute(DATABASE);
    let pass = shop.pass(APP);
    let mut client = shop.start(&pass);

    client.type_line("SELECT id, email, iban, born FROM customer WHERE id < 4 ORDER BY id;");
    let first = client.until("1\ttok_");
    let second = client.until("2\ttok_");
    let third = client.until("3\ttok_");
    let token = |line: &str| line.split('\t').nth(1).unwrap().to_owned();
    assert_eq!(
        token(&first),
        token(&third),
        "equal values are equal tokens"
    );
    assert_ne!(token(&first), token(&second));
    assert!(first.ends_with("\t****1234\tNULL"), "{first}");
    assert!(second.ends_with("\t****\tNULL"), "{second}");
    assert!(third.ends_with("\tNULL\tNULL"), "{third}");

    for (number, statement) in SHOWN.iter().enumerate() {
        let from = client.seen.len();
        client.type_line(statement);
        client.type_line(&format!("SELECT concat('shown ', {number});"));
        client.until(&format!("shown {number}"));
        let said = client.seen[from..].join("\n");
        assert!(said.contains("tok_"), "{statement}: {said}");
    }
    for (number, statement) in REFUSED.iter().enumerate() {
        let from = client.seen.len();
        client.type_line(statement);
        client.type_line(&format!("SELECT concat('refused ', {number});"));
        client.until(&format!("refused {number}"));
        let said = client.seen[from..].join("\n");
        let is_refused = said.contains("(masked-column)") || said.contains("(read-only)");
        assert!(is_refused, "{statement}: {said}");
    }
    // An error of the target's may tell a value, and is not told.
    client.type_line("SELECT nothing FROM customer;");
    client.until("shown by its code alone");
    // Another database makes another relation of a name.
    client.type_line("USE other;");
    client.type_line("SELECT name FROM item;");
    client.until("(masked-column)");
    client.type_line("USE shop;");

    // What has nothing to do with them is as ever.
    client.type_line("SELECT concat('left ', count(*)) FROM item;");
    client.until("left 3");
    client.type_line("SELECT name FROM harmless ORDER BY name;");
    client.until("CHAIR");
    client.type_line(
        "WITH x AS (SELECT name FROM item) SELECT concat('a ', name) FROM x UNION SELECT 'b';",
    );
    client.until("a desk");
    client.type_line("SHOW TABLES;");
    client.until("shown_twice");
    client.type_line("DESCRIBE customer;");
    client.until("email");
    client.type_line("SELECT concat('in ', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop';");
    client.until("in item");
    client.type_line("SELECT nothing FROM item;");
    client.until("Unknown column 'nothing'");
    let seen = client.seen.join("\n");
    client.end();
    assert!(!seen.contains(CANARY), "a value was seen: {seen}");

    let session = shop.newest();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mysql/masked.py");
    let python = crate::clients::venv("python");
    let output = finished(program(&shop, &python, &script, &pass).spawn().unwrap());
    assert!(output.stdout.ends_with(b"done\n"), "{output:?}");

    // The evidence tells what was refused, and no value.
    let evidence = format!("{:?}", shop.operations(&session));
    assert!(evidence.contains("masked-column"), "{evidence}");
    assert!(!evidence.contains("canary-"), "{evidence}");
}
