use super::*;
use crate::engine::app_server::past::Told;
use crate::turn::{Event, Item, Part, Role, Workdir};

const NOTHING: [usize; 0] = [];

const LIMITS: Limits = Limits { most: 2, lasts: Duration::from_secs(10), bytes: 10_000 };

fn turn(texts: &[&str]) -> Turn {
    let role = |index: usize| if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let item = |(index, text): (usize, &&str)| Item::message(role(index), vec![Part::Text((*text).into())]);
    let items: Vec<Item> = texts.iter().enumerate().map(item).collect();
    Turn::new(items, Workdir::resolve(None, &std::env::temp_dir(), &[]).unwrap())
}

fn past(question: &str) -> Past {
    let mut said = Told::default();
    said.note(&Event::Text("yes".into()));
    Past::new(turn(&[question]), said)
}

fn next(question: &str) -> Turn {
    turn(&[question, "yes", "and?"])
}

#[test]
fn a_thread_is_handed_out_once() {
    let (mut parking, now) = (Parking::default(), Instant::now());
    assert_eq!(parking.park(past("a"), 1, LIMITS, now).1, NOTHING);
    assert_eq!(parking.take(&next("b"), now), None);
    assert_eq!(parking.take(&turn(&["a"]), now), None);
    assert_eq!(parking.take(&next("a"), now), Some((1, 2)));
    assert_eq!(parking.take(&next("a"), now), None);
    // Two alike: the latest first.
    parking.park(past("a"), 2, LIMITS, now);
    parking.park(past("a"), 3, LIMITS, now);
    assert_eq!(parking.take(&next("a"), now), Some((3, 2)));
    assert_eq!(parking.take(&next("a"), now), Some((2, 2)));
    assert_eq!(parking.len(), 0);
}

#[test]
fn the_oldest_makes_room_and_time_ends() {
    let (mut parking, now) = (Parking::default(), Instant::now());
    for (number, question) in ["a", "b"].into_iter().enumerate() {
        assert_eq!(parking.park(past(question), number, LIMITS, now).1, NOTHING);
    }
    assert_eq!(parking.park(past("c"), 2, LIMITS, now).1, [0]);
    assert_eq!(parking.next_end(), Some(now + LIMITS.lasts));
    let late = now + LIMITS.lasts;
    assert_eq!(parking.take(&next("b"), late), None);
    assert_eq!(parking.take(&next("b"), late - Duration::from_nanos(1)), Some((1, 2)));
    assert_eq!(parking.expired(late - Duration::from_nanos(1)), NOTHING);
    assert_eq!(parking.expired(late), [2]);
    assert_eq!(parking.next_end(), None);
    for (number, question) in ["a", "b"].into_iter().enumerate() {
        parking.park(past(question), number, LIMITS, now);
    }
    assert_eq!([(); 3].map(|()| parking.remove_first()), [Some(0), Some(1), None]);
    let (number, gone) = parking.park(past("d"), 3, Limits { most: 0, ..LIMITS }, now);
    assert_eq!(gone, [3]);
    assert_eq!(parking.remove(|id, _| id == number), NOTHING);
}

#[test]
fn text_is_bounded_too() {
    let (mut parking, now) = (Parking::default(), Instant::now());
    let long = "x".repeat(1000);
    let limits = Limits { most: 9, bytes: 2 * past(&long).bytes(), ..LIMITS };
    assert_eq!(parking.park(past(&long), 1, limits, now).1, NOTHING);
    assert_eq!(parking.park(past(&long), 2, limits, now).1, NOTHING, "just as much as fits");
    let most = "x".repeat(3000);
    assert_eq!(parking.park(past(&most), 3, limits, now).1, [3], "too much alone");
    assert_eq!(parking.park(past("a"), 4, limits, now).1, [1]);
    assert_eq!(parking.remove(|_, thread| *thread == 2), [2]);
    assert_eq!(parking.len(), 1);
}
