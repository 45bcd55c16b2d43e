//! `mariadb-target CONNECTIONS`: a MariaDB server to be measured. How it is used: `targets::program`.

use sallyport_testkit::targets::{mariadb::Mariadb, program};

fn main() -> anyhow::Result<()> {
    let server = Mariadb::start_with(program::measured("mariadb-target")?)?;
    program::offer(server.address(), &server.socket(), &server.authority())
}
