//! What the metrics mean that parts count where it happens, beside no log line of their own.
//!
//! Counts nothing itself.

use metrics::{describe_counter, describe_gauge};

pub(super) fn describe() {
    ledger();
    shared();
    describe_counter!(
        "stiver_cache_errors_total",
        "Times a part of the cache failed and the call went on as a miss, by part"
    );
    describe_counter!(
        "stiver_cache_guard_refusals_total",
        "Cached answers alike enough to be served that the guard told apart, by why"
    );
    describe_counter!(
        "stiver_cache_risk_refusals_total",
        "Proposed cached answers that the risk control did not serve, by why"
    );
    describe_counter!(
        "stiver_cache_verdicts_total",
        "Cached answers that were served and asked for anew, by what the comparison said"
    );
    describe_counter!("stiver_notices_total", "Notices to the webhook, by whether it took them");
}

fn ledger() {
    describe_gauge!("stiver_ledger_pending", "Rows in the journal that are not in the database yet");
    describe_counter!(
        "stiver_ledger_write_errors_total",
        "Batches that the database did not take; they are tried again"
    );
    describe_counter!("stiver_ledger_journal_errors_total", "Rows that could not be appended to the journal");
    describe_counter!("stiver_ledger_sync_errors_total", "Times the journal could not be synced to its disk");
    describe_counter!(
        "stiver_ledger_unpriced_total",
        "Rows posted without a cost, because no price was known"
    );
    describe_counter!("stiver_ledger_over_ceiling_total", "Calls that cost more than what was held for them");
    describe_counter!(
        "stiver_ledger_expired_rows_total",
        "Rows deleted because they were older than retention_days"
    );
    describe_counter!(
        "stiver_ledger_expired_texts_total",
        "Texts of calls deleted because their days were over"
    );
    describe_counter!(
        "stiver_ledger_lost_texts_total",
        "Texts of calls that could not be journalled and were not kept; their rows were"
    );
    describe_gauge!("stiver_ledger_journal_bytes", "Bytes in the journal's files");
    describe_gauge!("stiver_ledger_journal_limit_bytes", "Bytes of journal at which new calls are refused");
    describe_counter!(
        "stiver_budget_warnings_untold_total",
        "Soft lines that were passed and not told of, because too many notices waited"
    );
}

fn shared() {
    describe_gauge!(
        "stiver_shared_store_away",
        "1 while the Redis that replicas share does not answer, else 0"
    );
    describe_counter!(
        "stiver_shared_store_failures_total",
        "Questions that the shared Redis failed or was late to answer"
    );
    describe_counter!(
        "stiver_shared_leases_lapsed_total",
        "Times this replica's lease ran out before it was renewed"
    );
    describe_gauge!(
        "stiver_shared_settlements_waiting",
        "Ends of calls that wait to be told to the shared Redis"
    );
    describe_gauge!(
        "stiver_shared_settlements_limit",
        "Ends of calls waiting for the shared Redis at which calls of teams with budgets are refused"
    );
    describe_counter!(
        "stiver_shared_settlements_lost_total",
        "Ends of calls that could not be told to the shared Redis and were dropped"
    );
    describe_counter!(
        "stiver_holds_without_shared_store_total",
        "Calls asked for while the shared Redis was away, by whether they were let pass"
    );
    describe_counter!(
        "stiver_limits_counted_locally_total",
        "Calls whose limits this replica counted alone, because the shared Redis was away"
    );
}
