//! Chance that can be repeated, and kills by chance.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// SplitMix64, so that a seed gives the same story on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A future that is killed after so many steps, as a process would be between any two of its waits.
struct Mortal<F> {
    lives: F,
    steps: usize,
}

impl<F: Future + Unpin> Future for Mortal<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.steps == 0 {
            return Poll::Ready(None);
        }
        self.steps -= 1;
        Pin::new(&mut self.lives).poll(context).map(Some)
    }
}

/// What came of it, if it was not killed before.
pub async fn for_steps<T>(steps: usize, lives: impl Future<Output = T>) -> Option<T> {
    let lives = Box::pin(lives);
    Mortal { lives, steps }.await
}
