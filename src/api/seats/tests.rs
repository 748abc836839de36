use super::*;

const OTHER: Holder = Holder::User(1);

#[test]
fn shares_are_kept_to_the_edge() {
    let check = |holder: Holder, most: usize, share: usize| {
        let seats = Seats::default();
        let taken: Vec<Seat> = (0..share).map(|_| seats.take(holder, most).unwrap()).collect();
        // We ourselves make room among our own.
        match holder {
            Holder::Us => assert!(seats.take(holder, most).is_ok() && taken[0].leave().is_cancelled()),
            _ => assert_eq!(seats.take(holder, most).unwrap_err(), Refused::Share(share), "{holder:?}"),
        }
    };
    let machine = Holder::Machine([198, 51, 100, 7].into());
    check(Holder::Us, 100, 100);
    for holder in [OTHER, machine, Holder::Unknown] {
        check(holder, 100, 50);
        check(holder, 101, 50);
        check(holder, 1, 1);
    }
    check(Holder::Strangers, 1024, 16);
    check(Holder::Strangers, 33, 16);
    check(Holder::Strangers, 32, 16);
    check(Holder::Strangers, 30, 15);
    check(Holder::Strangers, 1, 1);
}

#[test]
fn the_largest_holders_oldest_without_a_request_leaves() {
    let seats = Seats::default();
    let take = |holder| seats.take(holder, 6).map(Arc::new);
    let theirs: Vec<_> = (0..3).map(|_| take(OTHER).unwrap()).collect();
    let ours: Vec<_> = (0..2).map(|_| take(Holder::Us).unwrap()).collect();
    let third = take(Holder::User(2)).unwrap();
    let left = |seats: &[Arc<Seat>]| seats.iter().map(|seat| seat.leave().is_cancelled()).collect::<Vec<_>>();

    // The oldest is being answered, the second has been answered last: the third is the one.
    let busy = theirs[0].busy();
    drop(theirs[1].busy());
    let fourth = take(Holder::Us).unwrap();
    assert_eq!((left(&theirs), left(&ours)), (vec![false, false, true], vec![false, false]));
    // Who left is not counted, and is none the less the same until it has gone.
    drop(theirs[2].busy());

    // Ours are three now, theirs two.
    let fifth = take(Holder::User(2)).unwrap();
    assert_eq!((left(&theirs), left(&ours)), (vec![false, false, true], vec![true, false]));

    // All are being answered: nobody leaves, until one rests.
    let guards: Vec<_> = [&theirs[1], &ours[1], &third, &fourth, &fifth].map(|seat| seat.busy()).into();
    assert_eq!(take(Holder::Us).unwrap_err(), Refused::Full);
    drop(busy);
    let sixth = take(Holder::Us).unwrap();
    assert_eq!(left(&theirs), [true, false, true]);
    drop((guards, sixth, theirs, ours, third, fourth, fifth));
    assert!(seats.table().seats.is_empty() && seats.table().holders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_seat_given_back_or_resting_is_told() {
    let seats = Seats::default();
    let seat = Arc::new(seats.take(OTHER, 1).unwrap());
    let told = async || tokio::time::timeout(Duration::from_secs(1), seats.changed()).await.is_ok();
    let busy = seat.busy();
    assert!(!told().await);
    drop(busy);
    assert!(told().await);
    drop(seat);
    assert!(told().await);
}

#[test]
fn holders_follow_peers() {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let us = own_uid();
    for (peer, stranger, holder) in [
        (Peer::Local(us), false, Holder::Us),
        (Peer::Unix(Some(us)), false, Holder::Us),
        (Peer::CannotTell, false, Holder::Us),
        (Peer::Local(us + 1), false, Holder::User(us + 1)),
        (Peer::Local(us + 1), true, Holder::Strangers),
        (Peer::Stranger, true, Holder::Strangers),
        (Peer::Stranger, false, Holder::Unknown),
        (Peer::Unix(None), false, Holder::Unknown),
        (Peer::Remote(ip("198.51.100.7")), false, Holder::Machine(ip("198.51.100.7"))),
        (Peer::Remote(ip("2001:db8:1:2:3:4:5:6")), false, Holder::Machine(ip("2001:db8:1:2::"))),
    ] {
        assert_eq!(Holder::of(peer, stranger), holder, "{peer:?} {stranger}");
    }
}

#[test]
fn descriptors_are_kept_for_turns() {
    let config = Config { max_connections: 1024, max_concurrency: 4, ..Config::default() };
    assert_eq!(config.slots(), 4);
    assert_eq!(most(&config, usize::MAX), (1024, 1024));
    assert_eq!(most(&config, 1024), (672, 224));
    assert_eq!(most(&config, 256), (96, 32));
    assert_eq!(most(&config, 32), (12, 4));
    assert_eq!(most(&config, 0), (1, 1));
    let few = Config { max_connections: 3, ..config };
    assert_eq!(most(&few, 1024), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn idle_means_no_connection_for_that_long() {
    let connections = Connections::default();
    let limit = Duration::from_secs(60);
    let open = connections.enter();
    let idle = connections.idle_for(limit);
    tokio::pin!(idle);
    let mut within =
        async |seconds: u64| tokio::time::timeout(Duration::from_secs(seconds), idle.as_mut()).await.is_ok();
    assert!(!within(1000).await, "one is open");
    drop(open);
    assert!(!within(59).await, "not for long enough");
    drop(connections.enter());
    assert!(!within(59).await, "one came in between");
    assert!(within(2).await);
}
