//! Which statements may run, which results are shown, which are masked, which are refused; and rows as they are
//! shown.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut as _, BytesMut};
use sallyport_core::policy::Masks;

use super::{
    super::{
        codec::{HEADER_BYTES, put_string},
        operations::Text,
    },
    catalog::{Answers, Table},
    *,
};

const UTF8MB4: u16 = 45;

fn masks() -> Arc<Masks> {
    Arc::new(Masks::from([
        ("shop.*.customer.email".parse().unwrap(), Mask::Token),
        ("*.*.Customer.IBAN".parse().unwrap(), Mask::Partial),
        ("*.public.customer.born".parse().unwrap(), Mask::Null),
        ("*.*.secret_view.x".parse().unwrap(), Mask::Null),
        ("*.*.unread.x".parse().unwrap(), Mask::Null),
    ]))
}

fn table(name: &str, engine: &str) -> Table {
    Table {
        database: "shop".to_owned(),
        name: name.to_owned(),
        is_view: engine.is_empty(),
        engine: engine.to_owned(),
    }
}

fn catalog() -> Catalog {
    let views = [
        (
            "shown",
            "select `shop`.`customer`.`email` AS `note` from `shop`.`customer`",
        ),
        (
            "shown_twice",
            "select `shop`.`shown`.`note` AS `name` from `shop`.`shown`",
        ),
        (
            "harmless",
            "select ucase(`shop`.`item`.`name`) AS `name` from `shop`.`item`",
        ),
        ("looked_up", "select `shop`.`lookup`() AS `name`"),
        (
            "elsewhere",
            "select `hidden`.`t`.`a` AS `a` from `hidden`.`t`",
        ),
        ("blank", ""),
        (
            "secret_view",
            "select `shop`.`item`.`name` AS `x` from `shop`.`item`",
        ),
        (
            "listing",
            "select `information_schema`.`TABLES`.`TABLE_NAME` AS `n` from `information_schema`.`TABLES`",
        ),
        (
            "samples",
            "select `mysql`.`column_stats`.`min_value` AS `n` from `mysql`.`column_stats`",
        ),
    ];
    let mut tables: Vec<Table> = views.iter().map(|(name, _)| table(name, "")).collect();
    tables.push(table("not_to_be_seen", ""));
    tables.extend([
        table("customer", "InnoDB"),
        table("item", "InnoDB"),
        table("unread", "InnoDB"),
        table("merged", "MRG_MyISAM"),
    ]);
    // Of the same name as one that is clear.
    tables.push(Table {
        database: "other".to_owned(),
        ..table("item", "")
    });
    let definitions: HashMap<_, _> = views
        .iter()
        .map(|(name, text)| (("shop".to_owned(), (*name).to_owned()), (*text).to_owned()))
        .collect();
    let column =
        |table: &str, column: &str| ("shop".to_owned(), table.to_owned(), column.to_owned());
    let columns = vec![
        column("customer", "id"),
        column("customer", "Email"),
        column("customer", "iban"),
        column("customer", "born"),
        column("secret_view", "x"),
    ];
    Catalog::new(
        masks(),
        Answers {
            tables,
            definitions,
            columns,
            functions: vec!["Initcap".to_owned()],
        },
    )
}

fn touch(catalog: &Catalog, sql: &str) -> Result<Touch, Unmaskable> {
    let text =
        Text::of(sql.as_bytes(), true, Some("shop")).looked_at(sql.as_bytes(), true, Some("shop"));
    catalog.touch(text.what(), text.built().unwrap())
}

/// PO-2, G4: only one query of tables that are known may touch masked ones; what touches none is as ever.
#[test]
fn given_statements_then_those_whose_rows_can_be_judged_may_run_and_others_may_not() {
    let catalog = catalog();
    for (sql, expected) in [
        ("SELECT email FROM customer", Ok(Touch::Columns)),
        (
            "SELECT i.name, c.email FROM item i JOIN customer c USING (id)",
            Ok(Touch::Columns),
        ),
        ("SELECT upper(name) FROM item", Ok(Touch::Nothing)),
        (
            "SELECT name FROM (SELECT name FROM item) x UNION SELECT name FROM harmless",
            Ok(Touch::Nothing),
        ),
        ("SELECT @@version, CONNECTION_ID()", Ok(Touch::Nothing)),
        (
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES",
            Ok(Touch::Nothing),
        ),
        ("SELECT n FROM listing", Ok(Touch::Nothing)),
        ("SHOW TABLES", Ok(Touch::Nothing)),
        ("DESCRIBE customer", Ok(Touch::Nothing)),
        ("USE other", Ok(Touch::Nothing)),
        ("BEGIN", Ok(Touch::Nothing)),
        ("SET NAMES utf8mb4", Ok(Touch::Nothing)),
        (
            "SELECT email FROM (SELECT email FROM customer) AS item",
            Err(Unmaskable),
        ),
        (
            "SELECT name FROM item UNION SELECT email FROM customer",
            Err(Unmaskable),
        ),
        (
            "WITH a AS (SELECT email FROM customer) SELECT email FROM a",
            Err(Unmaskable),
        ),
        // Some servers read the first `customer` as the table.
        (
            "WITH a AS (SELECT email FROM customer), customer AS (SELECT 1 AS email) SELECT email FROM a",
            Err(Unmaskable),
        ),
        ("SELECT (SELECT max(email) FROM customer)", Err(Unmaskable)),
        ("SELECT @x := email FROM customer", Err(Unmaskable)),
        ("SELECT 1; SELECT email FROM customer", Err(Unmaskable)),
        ("EXPLAIN SELECT email FROM customer", Err(Unmaskable)),
        ("SELECT note FROM shown", Err(Unmaskable)),
        ("SELECT name FROM shown_twice", Err(Unmaskable)),
        ("SELECT name FROM looked_up", Err(Unmaskable)),
        ("SELECT a FROM elsewhere", Err(Unmaskable)),
        ("SELECT x FROM secret_view", Err(Unmaskable)),
        ("SELECT x FROM blank", Err(Unmaskable)),
        ("SELECT n FROM samples", Err(Unmaskable)),
        ("SELECT * FROM not_to_be_seen", Err(Unmaskable)),
        ("SELECT * FROM merged", Err(Unmaskable)),
        ("SELECT * FROM unread", Err(Unmaskable)),
        ("SELECT * FROM made_later", Err(Unmaskable)),
        ("SELECT * FROM other.customer", Err(Unmaskable)),
        ("SELECT min_value FROM mysql.column_stats", Err(Unmaskable)),
        (
            "SELECT * FROM information_schema.OPTIMIZER_TRACE",
            Err(Unmaskable),
        ),
        ("SHOW WARNINGS", Err(Unmaskable)),
        ("SELECT 1; SHOW WARNINGS", Err(Unmaskable)),
        // A function of PostgreSQL's, and here anybody's.
        ("SELECT initcap('')", Err(Unmaskable)),
        (
            "SELECT name FROM item WHERE `initcap` (name) > ''",
            Err(Unmaskable),
        ),
        (
            "WITH x AS (SELECT 1) SELECT name FROM other.item",
            Err(Unmaskable),
        ),
        (
            "WITH other AS (SELECT name FROM item) SELECT * FROM other",
            Err(Unmaskable),
        ),
        ("CALL whatever()", Err(Unmaskable)),
        ("not SQL at all", Err(Unmaskable)),
    ] {
        assert_eq!(touch(&catalog, sql), expected, "{sql}");
    }
}

/// PO-2, G4: an account reads values out of conditions only by guessing whole ones.
#[test]
fn given_conditions_on_masked_columns_then_only_equality_may_run() {
    let catalog = catalog();
    for (sql, expected) in [
        (
            "SELECT id FROM customer WHERE email = 'a' AND id > 3",
            Err(Unmaskable),
        ),
        (
            "SELECT id FROM customer WHERE email IN ('a', 'b') AND id = 3",
            Ok(Touch::Columns),
        ),
        (
            "SELECT id, email FROM customer WHERE id > 3",
            Ok(Touch::Columns),
        ),
        (
            "SELECT id FROM customer WHERE born < '1970-01-01'",
            Err(Unmaskable),
        ),
        (
            "SELECT id FROM customer WHERE Iban LIKE 'DE%'",
            Err(Unmaskable),
        ),
        (
            "SELECT id FROM customer JOIN information_schema.COLLATIONS a ON a.ID = ORD(SUBSTR(email, 1, 1))",
            Err(Unmaskable),
        ),
        (
            "SELECT id FROM customer WHERE id = 1 AND `last_insert_id`(CONV(HEX(email), 16, 10)) = 1",
            Err(Unmaskable),
        ),
        (
            "SELECT name FROM item WHERE lower(name) LIKE 'a%'",
            Ok(Touch::Nothing),
        ),
        ("SET NAMES utf16", Err(Unmaskable)),
        ("SET character_set_results = filename", Err(Unmaskable)),
        ("SET character_set_results = latin1", Ok(Touch::Nothing)),
    ] {
        assert_eq!(touch(&catalog, sql), expected, "{sql}");
    }
}

/// PO-2, G4: a masked column that the account may not see, or whose name it cannot spell, keeps its table and the
/// views over it from being clear.
#[test]
fn given_a_masked_column_that_is_not_seen_then_its_table_and_views_over_it_are_not_clear() {
    let masks = || {
        Arc::new(Masks::from([(
            "*.*.staff.kürzel".parse().unwrap(),
            Mask::Null,
        )]))
    };
    let definition = "select `shop`.`staff`.`kürzel` AS `name` from `shop`.`staff`";
    let catalog = |columns: &[&str]| {
        Catalog::new(
            masks(),
            Answers {
                tables: vec![table("staff", "InnoDB"), table("shown", "")],
                definitions: HashMap::from([(
                    ("shop".to_owned(), "shown".to_owned()),
                    definition.to_owned(),
                )]),
                columns: columns
                    .iter()
                    .map(|name| ("shop".to_owned(), "staff".to_owned(), (*name).to_owned()))
                    .collect(),
                functions: Vec::new(),
            },
        )
    };
    for hidden in [&["id"][..], &["id", "k?rzel"], &[]] {
        let catalog = catalog(hidden);
        for sql in ["SELECT id FROM staff", "SELECT name FROM shown"] {
            assert_eq!(touch(&catalog, sql), Err(Unmaskable), "{hidden:?} {sql}");
        }
    }
    let seen = catalog(&["id", "kürzel"]);
    assert_eq!(touch(&seen, "SELECT id FROM staff"), Ok(Touch::Columns));
    assert_eq!(touch(&seen, "SELECT name FROM shown"), Err(Unmaskable));
}

/// A definition as servers send it.
fn definition(database: &str, table: &str, column: &str, characters: u16, kind: u8) -> BytesMut {
    let mut body = BytesMut::new();
    for text in ["def", database, "alias", table, "any name", column] {
        put_string(&mut body, text.as_bytes());
    }
    body.put_u8(12);
    body.put_u16_le(characters);
    body.put_u32_le(160);
    body.put_u8(kind);
    body.put_slice(&[0; 5]);
    body
}

fn shape(rows: Rows, fields: &[(&str, &str, u16, u8)]) -> Shape {
    let catalog = catalog();
    let mut shape = Shape::new(rows);
    shape.begin();
    for (table, column, characters, kind) in fields {
        let database = if table.is_empty() { "" } else { "shop" };
        let text = definition(database, table, column, *characters, *kind);
        shape.define(&text, &catalog);
    }
    shape
}

/// PO-2: a field is what it comes from, and what comes from nowhere is not shown.
#[test]
fn given_definitions_then_each_field_is_shown_masked_or_refused_by_its_origin() {
    let is_shown = |field| {
        let shape = shape(Rows::Text, &[field]);
        shape.can_be_shown().then(|| shape.is_masked())
    };
    for (field, expected) in [
        (("customer", "id", BINARY, kind::LONG), Some(false)),
        (("item", "anything", UTF8MB4, kind::VAR_STRING), Some(false)),
        (("customer", "email", UTF8MB4, kind::VAR_STRING), Some(true)),
        (("customer", "EMAIL", UTF8MB4, kind::BLOB), Some(true)),
        (("customer", "born", BINARY, kind::DATE), Some(true)),
        // A token is no number, and bytes are no text.
        (("customer", "email", BINARY, kind::LONG), None),
        (("customer", "iban", BINARY, kind::VAR_STRING), None),
        (("customer", "added_later", UTF8MB4, kind::VAR_STRING), None),
        (("shown", "note", UTF8MB4, kind::VAR_STRING), None),
        (("unread", "x", UTF8MB4, kind::VAR_STRING), None),
        (("made_later", "x", UTF8MB4, kind::VAR_STRING), None),
        (("", "", UTF8MB4, kind::VAR_STRING), None),
        (("customer", "", UTF8MB4, kind::VAR_STRING), None),
    ] {
        assert_eq!(is_shown(field), expected, "{field:?}");
    }
    // One field is enough; the next result begins anew.
    let good = ("customer", "id", BINARY, kind::LONG);
    let mut shape = shape(Rows::Text, &[good, ("", "", BINARY, kind::LONG), good]);
    assert!(!shape.can_be_shown());
    shape.begin();
    assert!(shape.can_be_shown());
    shape.define(b"\x03def", &catalog());
    assert!(!shape.can_be_shown(), "it is cut short");
}

const FIELDS: [(&str, &str, u16, u8); 5] = [
    ("customer", "id", BINARY, kind::LONG),
    ("customer", "email", UTF8MB4, kind::VAR_STRING),
    ("customer", "iban", UTF8MB4, kind::BLOB),
    ("customer", "born", BINARY, kind::DATE),
    ("item", "name", UTF8MB4, kind::VAR_STRING),
];

fn token(column: &str, value: &[u8]) -> Option<String> {
    Some(format!("tok of {column} {}", value.len()))
}

/// PO-2: rows of the text protocol, with what is masked in its place and the rest as it came.
#[test]
fn given_text_rows_then_masked_values_are_replaced_and_others_are_not() {
    let shape = shape(Rows::Text, &FIELDS);
    let mut row = BytesMut::new();
    for value in ["1", "ann@example.com", "DE001234567", "1970-01-02", "lamp"] {
        put_string(&mut row, value.as_bytes());
    }
    let mut expected = BytesMut::new();
    put_string(&mut expected, b"1");
    put_string(&mut expected, b"tok of shop.*.customer.email 15");
    put_string(&mut expected, b"****4567");
    expected.put_u8(NULL);
    put_string(&mut expected, b"lamp");
    let shown = shape.row(&row, 7, token).unwrap();
    assert_eq!(shown[HEADER_BYTES - 1], 7);
    assert_eq!(&shown[HEADER_BYTES..], &expected[..]);

    let nulls = [NULL; 5];
    let shown = shape.row(&nulls, 7, token).unwrap();
    assert_eq!(&shown[HEADER_BYTES..], &nulls);
    for broken in [&row[..row.len() - 1], &[&row[..], &[NULL]].concat(), &[]] {
        assert_eq!(shape.row(broken, 7, token), Err(Unmaskable));
    }
    assert_eq!(shape.row(&row, 7, |_, _| None), Err(Unmaskable), "no token");
}

/// PO-2: rows of prepared statements, whose values stand as their types have them.
#[test]
fn given_binary_rows_then_masked_values_are_replaced_and_others_are_not() {
    let shape = shape(Rows::Binary, &FIELDS);
    let row = |nulls: u8, parts: &[&[u8]]| [&[0, nulls][..], &parts.concat()].concat();
    let text = |value: &str| {
        let mut out = BytesMut::new();
        put_string(&mut out, value.as_bytes());
        out.to_vec()
    };
    let id = 1_u32.to_le_bytes();
    let born = [4, 0xb2, 7, 1, 2];
    let came = row(
        0,
        &[
            &id,
            &text("ann@example.com"),
            &text("DE001234567"),
            &born,
            &text("lamp"),
        ],
    );
    let shown = shape.row(&came, 3, token).unwrap();
    // The day is NULL now: the fourth field, behind two bits that mean nothing.
    let expected = row(
        1 << 5,
        &[
            &id,
            &text("tok of shop.*.customer.email 15"),
            &text("****4567"),
            &text("lamp"),
        ],
    );
    assert_eq!(&shown[HEADER_BYTES..], &expected[..]);

    let nulls = row((1 << 3) | (1 << 4) | (1 << 5), &[&id, &text("lamp")]);
    let shown = shape.row(&nulls, 3, token).unwrap();
    assert_eq!(&shown[HEADER_BYTES..], &nulls[..]);
    for broken in [
        &came[..came.len() - 1],
        &[&came[..], &[0]].concat(),
        &[],
        &[0],
        &[1, 0, 0],
    ] {
        assert_eq!(shape.row(broken, 3, token), Err(Unmaskable), "{broken:?}");
    }
}

/// PO-2, K1: of two names for one column the stricter mask holds, and a mask is for the databases that it names.
#[test]
fn given_policies_names_then_they_hold_in_whatever_case_and_for_their_databases() {
    let answers = |database: &str| Answers {
        tables: vec![Table {
            database: database.to_owned(),
            ..table("customer", "InnoDB")
        }],
        columns: vec![(
            database.to_owned(),
            "customer".to_owned(),
            "email".to_owned(),
        )],
        ..Answers::default()
    };
    let masks = Arc::new(Masks::from([
        ("shop.*.customer.email".parse().unwrap(), Mask::Partial),
        ("*.*.CUSTOMER.Email".parse().unwrap(), Mask::Null),
        ("other.*.customer.email".parse().unwrap(), Mask::Token),
    ]));
    let of = |masks: &Arc<Masks>, database: &str| {
        let catalog = Catalog::new(Arc::clone(masks), answers(database));
        let column = catalog.column(database, "customer", "email").unwrap();
        column.map(|(mask, _)| mask)
    };
    assert_eq!(of(&masks, "shop"), Some(Mask::Null));
    assert_eq!(of(&masks, "other"), Some(Mask::Null));
    let one = Arc::new(Masks::from([(
        "shop.*.customer.email".parse().unwrap(),
        Mask::Token,
    )]));
    assert_eq!(of(&one, "SHOP"), Some(Mask::Token));
    assert_eq!(of(&one, "elsewhere"), None);
}
