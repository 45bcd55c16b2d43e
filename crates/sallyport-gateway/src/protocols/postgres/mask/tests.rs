//! Which results are shown, which are masked, which are refused; and rows as they are shown.

use std::collections::{BTreeSet, HashSet};

use bytes::BufMut as _;
use sallyport_core::{
    policy::Masks,
    session::{StatementFacts, Verb},
};

use super::catalog::{Answers, FIRST_OWN, Relation};
use super::*;

const CUSTOMER: u32 = FIRST_OWN;
const PART: u32 = FIRST_OWN + 1;
const ITEM: u32 = FIRST_OWN + 2;
const VIEW: u32 = FIRST_OWN + 3;
const VIEW_OF_VIEW: u32 = FIRST_OWN + 4;
const VIEW_OF_ITEM: u32 = FIRST_OWN + 5;
const ITEM_ELSEWHERE: u32 = FIRST_OWN + 6;
const VIEW_OF_CODE: u32 = FIRST_OWN + 7;
const STATISTICS: u32 = 3_000;
const TEXT: u32 = 25;
const INT: u32 = 23;

fn relation(number: u32, schema: &str, name: &str, is_view: bool) -> Relation {
    Relation {
        number,
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: 4,
        is_view,
    }
}

fn answers() -> Answers {
    Answers {
        relations: vec![
            relation(CUSTOMER, "public", "customer", false),
            relation(PART, "public", "customer_old", false),
            relation(ITEM, "public", "item", false),
            relation(VIEW, "public", "shown", true),
            relation(VIEW_OF_VIEW, "public", "shown_twice", true),
            relation(VIEW_OF_ITEM, "public", "items", true),
            relation(ITEM_ELSEWHERE, "other", "shadowed", false),
            relation(VIEW_OF_CODE, "public", "coded", true),
            relation(STATISTICS, "pg_catalog", "pg_stats", true),
        ],
        inheritance: vec![(PART, CUSTOMER)],
        views: vec![(VIEW, CUSTOMER), (VIEW_OF_VIEW, VIEW), (VIEW_OF_ITEM, ITEM)],
        computing_views: HashSet::new(),
        definitions: vec![
            (VIEW, "SELECT customer.id FROM customer".to_owned()),
            (VIEW_OF_VIEW, "SELECT shown.id FROM shown".to_owned()),
            (
                VIEW_OF_ITEM,
                "SELECT upper(item.name) AS n FROM item".to_owned(),
            ),
            (
                VIEW_OF_CODE,
                "SELECT query_to_xml('SELECT 1', true, true, '') AS n".to_owned(),
            ),
        ],
        columns: vec![
            (CUSTOMER, 2, "email".to_owned()),
            (PART, 3, "email".to_owned()),
            (ITEM, 1, "email".to_owned()),
            (CUSTOMER, 4, "born".to_owned()),
        ],
        computes_unseen: false,
    }
}

fn masks() -> Arc<Masks> {
    Arc::new(Masks::from([
        ("shop.public.customer.email".parse().unwrap(), Mask::Token),
        ("*.*.customer.born".parse().unwrap(), Mask::Null),
    ]))
}

fn catalog() -> Catalog {
    Catalog::new(masks(), "shop", answers())
}

fn described(fields: &[(u32, i16, u32)]) -> Vec<u8> {
    let mut body = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
    for (relation, column, kind) in fields {
        body.put_slice(b"name\0");
        body.put_u32(*relation);
        body.put_i16(*column);
        body.put_u32(*kind);
        body.put_slice(&[0; 8]);
    }
    body
}

fn shape(fields: &[(u32, i16, u32)], is_clear: bool) -> Result<Shape, Unmaskable> {
    Shape::of(Body::new(&described(fields)), is_clear, &catalog())
}

fn touching(relations: &[&str]) -> StatementFacts {
    StatementFacts {
        verbs: BTreeSet::from([Verb::Read]),
        relations: relations.iter().map(|name| (*name).to_owned()).collect(),
        ..StatementFacts::default()
    }
}

/// PO-2: a field passes as it is, or masked, or not at all; by whose it is, whatever it is called.
#[test]
fn given_fields_of_a_result_then_each_is_judged_by_the_column_it_comes_from() {
    for (field, expected) in [
        ((ITEM, 1, TEXT), Ok(0)),
        ((ITEM, -1, TEXT), Ok(0)),
        ((ITEM, 0, TEXT), Ok(0)),
        ((CUSTOMER, 1, INT), Ok(0)),
        ((CUSTOMER, 2, TEXT), Ok(1)),
        ((CUSTOMER, 4, INT), Ok(1)),
        // The part has its columns in another order.
        ((PART, 3, TEXT), Ok(1)),
        ((PART, 2, TEXT), Ok(0)),
        ((VIEW_OF_ITEM, 1, TEXT), Ok(0)),
        // A token is no number.
        ((CUSTOMER, 2, INT), Err(Unmaskable)),
        // A whole row, a column that came later, a relation that did.
        ((CUSTOMER, 0, TEXT), Err(Unmaskable)),
        ((CUSTOMER, 5, TEXT), Err(Unmaskable)),
        ((ITEM, 5, TEXT), Err(Unmaskable)),
        ((FIRST_OWN + 99, 1, TEXT), Err(Unmaskable)),
        // What shows it under another name, or nobody knows what.
        ((VIEW, 1, TEXT), Err(Unmaskable)),
        ((VIEW_OF_VIEW, 1, TEXT), Err(Unmaskable)),
        ((VIEW_OF_CODE, 1, TEXT), Err(Unmaskable)),
        ((STATISTICS, 1, TEXT), Err(Unmaskable)),
    ] {
        let masked = shape(&[field], true).map(|shape| shape.masked.len());
        assert_eq!(masked, expected, "{field:?}");
    }
    let computed = (0, 0, TEXT);
    assert!(shape(&[computed], true).is_ok());
    assert_eq!(shape(&[computed], false), Err(Unmaskable));
    assert!(
        shape(&[(CUSTOMER, 1, INT)], false).is_ok(),
        "a column as it is"
    );
}

/// PO-2: a statement is clear only if everything that bears the names it uses is.
#[test]
fn given_names_in_a_statement_then_it_is_clear_only_if_all_that_bears_them_is() {
    let catalog = catalog();
    for (relations, expected) in [
        (&[][..], true),
        (&["shop.*.item"], true),
        (&["shop.public.item"], true),
        (&["shop.*.items"], true),
        (&["shop.*.customer"], false),
        (&["shop.public.customer_old"], false),
        (&["shop.*.shown_twice"], false),
        (&["shop.*.item", "shop.*.shown"], false),
        (&["shop.*.coded"], false),
        (&["shop.pg_catalog.pg_stats"], false),
        (&["shop.public.shadowed"], false),
        (&["shop.*.came_later"], false),
        (&["other.public.item"], false),
        (&["*"], false),
    ] {
        assert_eq!(
            catalog.is_clear(&touching(relations)),
            expected,
            "{relations:?}"
        );
    }
    assert!(!catalog.is_clear(&StatementFacts::unknown()));
    let fetching = StatementFacts {
        fetches: true,
        ..touching(&[])
    };
    assert!(!catalog.is_clear(&fetching), "whatever its cursor asks for");

    // A table of the same name in another schema may be the one that is meant.
    let mut answers = answers();
    answers
        .relations
        .push(relation(FIRST_OWN + 50, "other", "item", true));
    let catalog = Catalog::new(masks(), "shop", answers);
    assert!(!catalog.is_clear(&touching(&["shop.*.item"])));
    assert!(catalog.is_clear(&touching(&["shop.public.item"])));
}

/// PO-2: masks of other databases, and code that is called unseen.
#[test]
fn given_another_database_or_hidden_code_then_it_masks_nothing_or_trusts_nothing() {
    let elsewhere = Catalog::new(masks(), "elsewhere", answers());
    assert_eq!(elsewhere.column(CUSTOMER, 2), Ok(None));
    assert!(matches!(
        elsewhere.column(CUSTOMER, 4),
        Ok(Some((Mask::Null, _)))
    ));
    let coded = Answers {
        computes_unseen: true,
        ..answers()
    };
    let catalog = Catalog::new(masks(), "shop", coded);
    let computed = described(&[(0, 0, TEXT)]);
    assert_eq!(
        Shape::of(Body::new(&computed), true, &catalog),
        Err(Unmaskable)
    );
    assert!(catalog.is_for(&masks()) && !catalog.is_for(&Masks::new()));
}

fn row(values: &[Option<&str>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    codec::message(&mut out, b'D', |body| {
        body.put_u16(u16::try_from(values.len()).unwrap());
        for value in values {
            put_value(body, value.map(str::as_bytes)).unwrap();
        }
    })
    .unwrap();
    out.to_vec()
}

/// PO-2: masked values are gone from a row, and the others are what they were.
#[test]
fn given_a_row_then_masked_values_are_replaced_and_the_rest_stays() {
    let field = |position, mask| MaskedField {
        position,
        mask,
        column: Arc::from("c"),
    };
    let shape = Shape {
        fields: 5,
        masked: vec![
            field(1, Mask::Token),
            field(2, Mask::Partial),
            field(3, Mask::Null),
            field(4, Mask::Token),
        ],
    };
    let token = |column: &str, value: &[u8]| Some(format!("{column}{}", value.len()));
    let before = row(&[
        Some("1"),
        Some("secret"),
        Some("DE02120300"),
        Some("1970"),
        None,
    ]);
    let after = row(&[Some("1"), Some("c6"), Some("****0300"), None, None]);
    assert_eq!(shape.row(&before, token).unwrap(), after);
    assert_eq!(shape.row(&before, |_, _| None), Err(Unmaskable), "no token");
    for broken in [
        row(&[Some("1")]),
        before[..before.len() - 1].to_vec(),
        b"D".to_vec(),
    ] {
        assert_eq!(shape.row(&broken, token), Err(Unmaskable));
    }
    assert!(fields(Body::new(&described(&[(1, 1, 1)])[..10])).is_err());
}
