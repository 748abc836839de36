//! Who may run now: a fixed number of slots and one bounded queue, fair between callers.
//!
//! ```text
//! join ---> free slot ---------------------------> Permit --- dropped ---> next in line
//!      \--> queue has room --> Place --- granted --^
//!      \--> full: QueueFull      |--- dropped (client left) or timed out: leaves the line
//!                                \--- its caller has most in a full line: QueueFull
//! ```
//!
//! Within a caller first come, first served; between callers in turn. In a full queue a caller with
//! fewer waiting turns takes the place of the newest of the one with most; a lone caller may use all.
//!
//! A slot is owned by its [`Permit`], so every way a turn can end gives it back. Limits may change
//! while turns run: more slots are granted at once, fewer take effect as turns end.

mod line;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::turn::{Caller, Failure};

use line::Line;

/// The slots and the queue.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    slots: usize,
    longest: usize,
    running: usize,
    line: Line<Caller, Grant>,
    draining: bool,
    /// Told of every change of the above.
    changed: Arc<Notify>,
}

/// How one that waits is told. Dropped, it says that the server stops.
type Grant = oneshot::Sender<Result<Permit, Failure>>;

/// How full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Turns that run.
    pub running: usize,
    /// Turns that wait.
    pub waiting: usize,
    /// Turns that may run at once.
    pub slots: usize,
    /// Whether nobody is admitted any more.
    pub draining: bool,
}

/// A running turn's slot. Dropping it gives the slot to the next in line.
#[derive(Debug)]
pub struct Permit(Admission);

/// A place in the queue, or a slot already. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Place {
    admission: Admission,
    caller: Caller,
    number: u64,
    granted: oneshot::Receiver<Result<Permit, Failure>>,
}

impl Admission {
    /// `slots` turns run at once, `longest` more may wait.
    pub fn new(slots: usize, longest: usize) -> Admission {
        Admission(Arc::new(Mutex::new(State {
            slots,
            longest,
            running: 0,
            line: Line::new(),
            draining: false,
            changed: Arc::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes places for `turns` turns of one request: all of them or none.
    ///
    /// # Errors
    /// [`Failure::QueueFull`], or [`Failure::Draining`] once [`Admission::drain`] was called.
    pub fn join(&self, caller: &Caller, turns: usize) -> Result<Vec<Place>, Failure> {
        let mut state = self.state();
        if state.draining {
            return Err(Failure::Draining);
        }
        let waiting = state.line.len();
        let free = if waiting == 0 { state.slots.saturating_sub(state.running) } else { 0 };
        let (to_wait, longest) = (turns.saturating_sub(free), state.longest);
        let full = Failure::QueueFull { waiting };
        let Some(displaced) = state.line.make_room(caller, to_wait, longest) else { return Err(full) };
        let (grants, granted): (Vec<Grant>, Vec<_>) = (0..turns).map(|_| oneshot::channel()).unzip();
        let numbers = state.line.join(caller, grants);
        for grant in displaced {
            // Who has left meanwhile needs no answer.
            let _ = grant.send(Err(full.clone()));
        }
        self.grant(state);
        let place =
            |(number, granted)| Place { admission: self.clone(), caller: caller.clone(), number, granted };
        Ok(numbers.into_iter().zip(granted).map(place).collect())
    }

    /// Hands free slots to the first in line.
    fn grant(&self, mut state: MutexGuard<'_, State>) {
        state.changed.notify_one();
        let mut unclaimed = Vec::new();
        while state.running < state.slots {
            let Some(grant) = state.line.next() else { break };
            state.running += 1;
            unclaimed.extend(grant.send(Ok(Permit(self.clone()))).err());
        }
        // A permit that nobody took goes back by being dropped, which needs the lock.
        drop(state);
    }

    /// Changes the limits, as a reload does. Who runs or waits already stays.
    pub fn resize(&self, slots: usize, longest: usize) {
        let mut state = self.state();
        state.slots = slots;
        state.longest = longest;
        self.grant(state);
    }

    /// Admits nobody any more; who waits gets [`Failure::Draining`]. Running turns go on.
    pub fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        state.changed.notify_one();
        state.line.clear();
    }

    /// Resolves when [`Admission::load`] has changed since the last time. For one listener.
    pub async fn changed(&self) {
        let changed = Arc::clone(&self.state().changed);
        changed.notified().await;
    }

    /// How full it is now.
    pub fn load(&self) -> Load {
        let state = self.state();
        Load {
            running: state.running,
            waiting: state.line.len(),
            slots: state.slots,
            draining: state.draining,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        self.0.grant(state);
    }
}

impl Place {
    /// Waits for the slot. Cancel-safe.
    ///
    /// # Errors
    /// [`Failure::Draining`] when the server stops meanwhile; [`Failure::QueueFull`] when a caller
    /// with fewer turns took the place.
    pub async fn granted(&mut self) -> Result<Permit, Failure> {
        (&mut self.granted).await.unwrap_or(Err(Failure::Draining))
    }

    /// What [`Place::granted`] gives, if that is known already; not to be asked again after that.
    pub fn granted_at_once(&mut self) -> Option<Result<Permit, Failure>> {
        self.granted.try_recv().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.line.leave(&self.caller, self.number);
        state.changed.notify_one();
        drop(state);
        // Granted but never taken: the permit inside the channel is dropped with it, after the
        // lock is free again.
        self.granted.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Caller = Caller::User(1);
    const B: Caller = Caller::User(2);

    fn load(admission: &Admission) -> (usize, usize) {
        let load = admission.load();
        (load.running, load.waiting)
    }

    fn now(place: &mut Place) -> Option<Permit> {
        place.granted.try_recv().ok()?.ok()
    }

    fn one(admission: &Admission) -> Place {
        admission.join(&A, 1).unwrap().pop().unwrap()
    }

    #[test]
    fn the_queue_is_bounded_and_first_come_first_served() {
        let admission = Admission::new(1, 2);
        let mut first = one(&admission);
        let permit = now(&mut first).unwrap();
        let (mut second, mut third) = (one(&admission), one(&admission));
        assert_eq!(load(&admission), (1, 2));
        assert_eq!(admission.join(&A, 1).unwrap_err(), Failure::QueueFull { waiting: 2 });
        drop(permit);
        assert!(now(&mut third).is_none());
        let permit = now(&mut second).unwrap();
        drop(permit);
        assert!(now(&mut third).is_some());
    }

    #[test]
    fn a_queue_of_zero_only_takes_free_slots() {
        let admission = Admission::new(1, 0);
        let mut place = one(&admission);
        let permit = now(&mut place).unwrap();
        assert_eq!(admission.join(&A, 1).unwrap_err(), Failure::QueueFull { waiting: 0 });
        drop(permit);
        assert!(now(&mut one(&admission)).is_some());
    }

    #[test]
    fn turns_of_one_request_join_together_or_not_at_all() {
        let admission = Admission::new(2, 2);
        assert_eq!(admission.join(&A, 5).unwrap_err(), Failure::QueueFull { waiting: 0 });
        assert_eq!(load(&admission), (0, 0));
        let places = admission.join(&A, 4).unwrap();
        assert_eq!(load(&admission), (2, 2));
        drop(places);
        assert_eq!(load(&admission), (0, 0));
    }

    #[test]
    fn leaving_frees_the_place_and_a_slot_granted_but_not_taken() {
        let admission = Admission::new(1, 2);
        let holder = one(&admission);
        let leaver = one(&admission);
        let mut last = one(&admission);
        drop(leaver);
        assert_eq!(load(&admission), (1, 1));
        drop(holder);
        assert!(now(&mut last).is_some());
        assert_eq!(load(&admission), (0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_gives_way_to_who_waits_with_less() {
        let admission = Admission::new(1, 3);
        let running = one(&admission);
        let (mut first, mut pair) = (one(&admission), admission.join(&A, 2).unwrap());
        let mut other = admission.join(&B, 1).unwrap().remove(0);
        for place in &mut pair {
            assert_eq!(place.granted().await.unwrap_err(), Failure::QueueFull { waiting: 3 });
        }
        drop(pair);
        assert_eq!(load(&admission), (1, 2));
        let another = one(&admission);
        assert_eq!(admission.join(&A, 1).unwrap_err(), Failure::QueueFull { waiting: 3 });
        drop(running);
        let permit = now(&mut first).unwrap();
        drop(permit);
        let permit = now(&mut other).unwrap();
        assert_eq!(load(&admission), (1, 1));
        drop((another, permit));
        assert_eq!(load(&admission), (0, 0));
    }

    #[tokio::test]
    async fn draining_answers_those_who_wait_and_lets_the_running_end() {
        let admission = Admission::new(1, 2);
        let permit = one(&admission).granted().await.unwrap();
        let mut waiting = one(&admission);
        admission.drain();
        assert_eq!(waiting.granted().await.unwrap_err(), Failure::Draining);
        assert_eq!(admission.join(&A, 1).unwrap_err(), Failure::Draining);
        assert_eq!(load(&admission), (1, 0));
        drop(permit);
        assert_eq!(load(&admission), (0, 0));
    }

    #[test]
    fn limits_change_while_turns_run() {
        let admission = Admission::new(1, 4);
        let mut places = admission.join(&A, 4).unwrap();
        let mut permits: Vec<Permit> = places.iter_mut().filter_map(now).collect();
        assert_eq!(permits.len(), 1);
        admission.resize(3, 4);
        permits.extend(places.iter_mut().filter_map(now));
        assert_eq!((permits.len(), load(&admission)), (3, (3, 1)));
        admission.resize(1, 0);
        permits.truncate(1);
        assert_eq!(load(&admission), (1, 1));
        drop(permits);
        assert_eq!(load(&admission), (1, 0));
        assert!(now(&mut places[3]).is_some());
        assert_eq!(load(&admission), (0, 0));
    }

    proptest! {
        #[test]
        fn any_order_of_joining_leaving_and_ending_keeps_the_count(steps in prop::collection::vec((0..5u8, 0..8usize), 1..60)) {
            let admission = Admission::new(2, 3);
            let (mut places, mut permits) = (Vec::new(), Vec::new());
            for (step, which) in steps {
                match step {
                    0 => places.extend(admission.join(&A, 1 + which % 3).unwrap_or_default()),
                    4 => places.extend(admission.join(&B, 1 + which % 3).unwrap_or_default()),
                    1 if !places.is_empty() => { places.remove(which % places.len()); }
                    2 if !permits.is_empty() => { permits.remove(which % permits.len()); }
                    _ => {
                        let taken = places.iter_mut().enumerate().find_map(|(index, place)| Some((index, now(place)?)));
                        if let Some((index, permit)) = taken {
                            permits.push(permit);
                            places.remove(index);
                        }
                    }
                }
                let (running, waiting) = load(&admission);
                prop_assert!(running <= 2 && waiting <= 3 && permits.len() <= running);
                prop_assert!(waiting == 0 || running == 2, "somebody waits beside a free slot");
            }
            drop((places, permits));
            prop_assert_eq!(load(&admission), (0, 0));
        }
    }
}
