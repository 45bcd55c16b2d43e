//! `sallyport person …`.

use clap::Subcommand;
use reqwest::Method;
use sallyport_api::rest::directory::{
    CreatePerson, DisablePerson, EditPerson, EnrolmentCode, PersonView,
};

use crate::{
    client::NOTHING,
    context::Context,
    failure::Failure,
    output::{Column, joined},
};

use super::{Limit, print_listed};

/// People, their groups and administrative roles
#[derive(Debug, clap::Args)]
pub struct Person {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List people by name
    List {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a person
    Show {
        /// Sign-in name
        name: String,
    },
    /// Make a person and print the one-time code to enrol with
    Create {
        /// Sign-in name
        name: String,
        /// Name for people
        #[arg(long, default_value = "")]
        display_name: String,
        /// Group to be in, made when missing; repeat for more
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Administrative role: owner, security, approver, auditor; repeat for more
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Change a person; what is not named stays
    Edit(Edit),
    /// Disable a person: grants, sessions and tokens end at once
    Disable {
        /// Sign-in name
        name: String,
        /// Why; kept in the audit log
        #[arg(long)]
        reason: String,
    },
    /// Enable a disabled person again
    Enable {
        /// Sign-in name
        name: String,
    },
    /// Print a new one-time code to enrol with; password and one-time codes of before end with its use
    Enrolment {
        /// Sign-in name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Edit {
    /// Sign-in name
    name: String,
    /// Name for people
    #[arg(long)]
    display_name: Option<String>,
    /// Group to be in; all of them, repeated
    #[arg(long = "group", value_name = "GROUP", conflicts_with = "no_groups")]
    groups: Vec<String>,
    /// Be in no group
    #[arg(long)]
    no_groups: bool,
    /// Administrative role; all of them, repeated
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
    roles: Vec<String>,
    /// Have no administrative role
    #[arg(long)]
    no_roles: bool,
}

impl Person {
    /// Calls `/v1/people`.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.verb {
            Verb::List { limit } => {
                let people = client.list(&["people"], &[], limit.limit).await?;
                print_listed(context.output, &people, &COLUMNS)
            }
            Verb::Show { name } => {
                let person: PersonView = client.get(&["people", &name], &NOTHING).await?;
                context.output.record(&person, &fields(&person))
            }
            Verb::Create {
                name,
                display_name,
                groups,
                roles,
            } => {
                let body = CreatePerson {
                    name,
                    display_name,
                    groups,
                    admin_roles: roles,
                };
                print_code(context, &client.post(&["people"], &body).await?)
            }
            Verb::Edit(edit) => {
                let (path, body) = edit.into_body();
                let person: PersonView = client
                    .send(Method::PATCH, &["people", &path], &body)
                    .await?;
                context.output.record(&person, &fields(&person))
            }
            Verb::Disable { name, reason } => {
                let person: PersonView = client
                    .post(&["people", &name, "disable"], &DisablePerson { reason })
                    .await?;
                context.output.done(&person, &format!("disabled {name}"))
            }
            Verb::Enable { name } => {
                let person: PersonView = client.act(&["people", &name, "enable"]).await?;
                context.output.done(&person, &format!("enabled {name}"))
            }
            Verb::Enrolment { name } => {
                print_code(context, &client.act(&["people", &name, "enrolment"]).await?)
            }
        }
    }
}

impl Edit {
    fn into_body(self) -> (String, EditPerson) {
        let all = |names: Vec<String>, none: bool| (none || !names.is_empty()).then_some(names);
        let body = EditPerson {
            display_name: self.display_name,
            groups: all(self.groups, self.no_groups),
            admin_roles: all(self.roles, self.no_roles),
        };
        (self.name, body)
    }
}

fn print_code(context: &Context, made: &EnrolmentCode) -> Result<(), Failure> {
    let name = &made.person.name;
    context.output.record(
        made,
        &[
            ("person", name.clone()),
            ("enrolment code", made.code.expose().to_owned()),
            (
                "next",
                format!(
                    "give the code to {name}, who runs `sallyport enrol`; it is not shown again"
                ),
            ),
        ],
    )
}

const COLUMNS: [Column<PersonView>; 4] = [
    Column::whole("NAME", |person: &PersonView| person.name.clone()),
    Column::new("GROUPS", |person| joined(&person.groups)),
    Column::new("ROLES", |person| joined(&person.admin_roles)),
    Column::new("STATE", state),
];

fn state(person: &PersonView) -> String {
    match (person.is_enabled, person.is_enrolled) {
        (false, _) => "disabled",
        (true, false) => "not enrolled",
        (true, true) => "enabled",
    }
    .to_owned()
}

fn fields(person: &PersonView) -> [(&'static str, String); 6] {
    [
        ("id", person.id.clone()),
        ("name", person.name.clone()),
        ("display name", person.display_name.clone()),
        ("groups", joined(&person.groups)),
        ("roles", joined(&person.admin_roles)),
        ("state", state(person)),
    ]
}
