//! Every task runs once, whatever the threads do; a panic is an error; parts do not overlap.

use super::*;

#[test]
fn every_task_runs_exactly_once_on_any_number_of_threads() {
    for n_threads in [1, 2, 3, 7] {
        let mut pool = Pool::new(n_threads);
        assert_eq!(pool.n_threads(), n_threads);
        for n_tasks in [0, 1, 2, 3, 100, 1_000, MAX_TASKS, MAX_TASKS + 1, 2 * MAX_TASKS + 7] {
            let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();

            pool.run(n_tasks, &|task_idx| {
                counts[task_idx].fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();

            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{n_threads} {n_tasks}");
        }
    }
}

#[test]
fn many_short_jobs_in_a_row_lose_no_task() {
    let mut pool = Pool::new(3);
    let total = AtomicUsize::new(0);

    for n_tasks in (0..30_000).map(|round| 2 + round % 3) {
        pool.run(n_tasks, &|_| {
            total.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }

    assert_eq!(total.into_inner(), 90_000);
}

#[test]
fn threads_that_fell_asleep_are_woken() {
    let mut pool = Pool::new(2);
    for _ in 0..20 {
        // Long enough asleep to be sure of it without a sleep of the test's own: the flag says so.
        while !pool.shared.asleep[0].0.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let count = AtomicUsize::new(0);

        pool.run(2, &|_| {
            // Both tasks wait for each other, so neither thread can do both.
            count.fetch_add(1, Ordering::SeqCst);
            while count.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
        })
        .unwrap();
    }
}

#[test]
fn a_panic_is_an_error_and_the_pool_goes_on() {
    for n_threads in [1, 2] {
        let mut pool = Pool::new(n_threads);
        let count = AtomicUsize::new(0);

        let outcome = pool.run(50, &|task_idx| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_ne!(task_idx % 10, 3, "a task that fails on purpose");
        });

        assert_eq!(outcome, Err(TaskPanicked));
        assert_eq!(count.load(Ordering::Relaxed), 50);
        assert_eq!(pool.run(5, &|_| {}), Ok(()));
    }
}

#[test]
fn parts_cover_the_whole_and_do_not_overlap() {
    let mut pool = Pool::new(2);
    for len in [0, 1, 9, 10, 11, 100] {
        let mut values = vec![0; len];

        pool.for_each(Chunks::new(&mut values, 10), |idx, part| part.iter_mut().for_each(|v| *v += idx + 1))
            .unwrap();

        let expected: Vec<usize> = (0..len).map(|at| at / 10 + 1).collect();
        assert_eq!(values, expected);
    }
}

#[test]
fn ranges_end_where_they_say() {
    let mut pool = Pool::new(2);
    let mut values = vec![0; 10];

    pool.for_each(Ranges::new(&mut values, &[3, 3, 8]), |idx, part| part.fill(idx + 1)).unwrap();

    assert_eq!(values, [1, 1, 1, 3, 3, 3, 3, 3, 0, 0]);
}

#[test]
fn columns_are_strips_of_every_row() {
    let mut pool = Pool::new(2);
    let mut values = vec![0; 3 * 7];
    let marks = vec![0_u8; 7];
    let mut marks = marks;

    pool.for_each(
        (Columns::new(&mut values, 7, 3), Chunks::new(&mut marks, 3)),
        |idx, (mut strip, marks)| {
            for row_idx in 0..3 {
                assert_eq!(strip.row_mut(row_idx).len(), marks.len());
                strip.row_mut(row_idx).fill(10 * row_idx + idx);
            }
        },
    )
    .unwrap();

    assert_eq!(values[..7], [0, 0, 0, 1, 1, 1, 2]);
    assert_eq!(values[14..], [20, 20, 20, 21, 21, 21, 22]);
}

#[test]
fn bands_cover_the_table_once() {
    let mut values = vec![0; 6 * 5];

    Pool::new(2)
        .for_each(Columns::new(&mut values, 5, 2).in_bands(4), |idx, mut strip| {
            (0..if idx < 3 { 4 } else { 2 }).for_each(|row| strip.row_mut(row).fill(1 + idx));
        })
        .unwrap();

    assert_eq!(values[..5], [1, 1, 2, 2, 3]);
    assert_eq!(values[15..20], values[..5]);
    assert_eq!(values[20..25], [4, 4, 5, 5, 6]);
    assert_eq!(values[25..], values[20..25]);
}

#[test]
fn picked_rows_are_written_and_no_others() {
    let mut rows = Distinct::default();
    assert!(!rows.replace([3, 1, 3].into_iter()));
    assert!(rows.replace([3, 1].into_iter()));
    let mut values = vec![0; 5 * 2];

    Pool::new(2).for_each(Picked::new(&mut values, 2, &rows), |idx, row| row.fill(1 + idx)).unwrap();

    assert_eq!(values, [0, 0, 2, 2, 0, 0, 1, 1, 0, 0]);
    assert!(rows.replace([5].into_iter()));
    let past_the_end = Pool::new(1).for_each(Picked::new(&mut values, 2, &rows), |_, _| {});
    assert_eq!(past_the_end, Err(TaskPanicked));
}

#[test]
fn a_strip_has_no_rows_but_its_own() {
    let mut values = [0; 12];
    let mut pool = Pool::new(1);

    let outcome = pool.for_each(Columns::new(&mut values, 3, 3).in_bands(2), |_, mut strip| {
        strip.row_mut(2).fill(1);
    });

    assert_eq!(outcome, Err(TaskPanicked));
    assert_eq!(values, [0; 12]);
}

#[test]
fn unsorted_ends_and_ragged_tables_are_refused() {
    let refused = |make: fn(&mut [u8])| {
        catch_unwind(|| make(&mut [0; 10])).expect_err("it is refused");
    };

    refused(|values| assert_eq!(Ranges::new(values, &[5, 3]).n_parts(), 2));
    refused(|values| assert_eq!(Columns::new(values, 3, 1).n_parts(), 3));
    let mut pool = Pool::new(1);
    let past_the_end = pool.for_each(Ranges::new(&mut [0; 10], &[11]), |_, _| {});
    assert_eq!(past_the_end, Err(TaskPanicked));
}
