//! `postgres-target CONNECTIONS`: a PostgreSQL server to be measured. How it is used: `targets::program`.

use sallyport_testkit::targets::{postgres::Postgres, program};

fn main() -> anyhow::Result<()> {
    let server = Postgres::start_as_target_with(program::measured("postgres-target")?)?;
    program::offer(server.address(), server.socket(), &server.authority())
}
