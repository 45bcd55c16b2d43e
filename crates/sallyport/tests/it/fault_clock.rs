//! A clock that jumps while the node runs.

use std::time::Duration;

use sallyport_testkit::effort;

use crate::{
    node::{Setup, get},
    waiting::within,
    world::{ROOT, World},
};

/// R7, N, AC-5: access ends when the clock jumps over its end, and does not begin again when the clock is
/// put back; the node says within five seconds that its clock is behind.
#[test]
fn a_clock_that_jumps_ahead_and_back_ends_access_for_good() {
    let jumps = [("+1h", "50m"), ("+5m", "4m"), ("+7h", "6h")];
    for (jump, duration) in jumps.into_iter().take(effort::rounds(1)) {
        let world = World::with(Setup {
            has_own_clock: true,
            ..Setup::default()
        });
        world.grant(ROOT, duration);
        let live = world.ssh().start(ROOT, "echo started; sleep 600");
        live.until_line("started");
        world.node.set_clock(jump);
        let (status, complaint) = live.ended_within(Duration::from_secs(15));
        assert!(!status.success(), "{jump}");
        assert!(complaint.contains("(grant-expired)"), "{jump}: {complaint}");

        // The gateway ended it by its own clock; what control never saw it need not remember.
        world.alice.attempt(&["whoami"]);
        world.node.set_clock("+0");
        within(Duration::from_secs(5), "the node says so", || {
            get(&world.node.health(), "/readyz")?
                .contains("behind the last recorded time")
                .then_some(())
        });
        within(Duration::from_secs(5), "no grant is live", || {
            world
                .alice
                .list(&["grant", "list", "--live"])
                .is_empty()
                .then_some(())
        });
        let mut stays_out = world.ssh().start(ROOT, "true");
        world.pending();
        assert!(
            stays_out.is_live(),
            "{jump}: let in by a grant that had ended"
        );
    }
}

/// R7, N: ten years ahead everything that proves somebody is over; back again it still is.
#[test]
fn a_clock_ten_years_ahead_for_a_moment_leaves_no_token_alive() {
    let world = World::with(Setup {
        has_own_clock: true,
        ..Setup::default()
    });
    world.grant(ROOT, "1h");
    assert_eq!(world.alice.attempt(&["whoami"]).code, 0);
    for (jump, what) in [
        ("+3652d", "ahead"),
        ("+0", "back"),
        ("-3652d", "ten years behind"),
    ] {
        world.node.set_clock(jump);
        let answer = get(&world.node.health(), "/readyz");
        assert!(answer.is_some(), "{what}: the node still answers");
        assert_ne!(
            world.alice.attempt(&["whoami"]).code,
            0,
            "{what}: her token"
        );
    }
}
