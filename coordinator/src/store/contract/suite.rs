//! The list of the suite's stories, as a macro that makes a test of each.

/// Makes a test of each story. The argument is the path of an async function that makes a `World` and
/// a value that is kept until the test ends.
#[macro_export]
macro_rules! store_contract {
    ($world:path) => {
        $crate::store_contract! { $world:
            a_job_goes_from_submit_to_result
            the_same_key_and_request_give_the_same_job
            concurrent_submits_with_one_key_make_one_job
            tenants_do_not_see_each_other
            a_repeated_claim_gets_the_same_grant
            a_claim_answer_that_is_full_defers_the_rest
            checkpoints_let_the_next_attempt_go_on
            a_checkpoint_with_a_gap_is_refused
            what_is_begun_is_kept_for_the_next_attempt_and_is_no_result
            of_other_tasks_nothing_is_begun
            a_zombies_failure_changes_nothing_and_its_success_wins
            a_wrong_token_has_no_effect
            retries_are_delayed_and_end_as_a_dead_letter
            discarded_dead_letters_leave_the_list
            releases_keep_the_checkpoint_and_cost_nothing
            cancel_stops_what_waits_at_once_and_what_runs_in_time
            deadlines_expire_jobs_in_any_state
            messages_stay_in_the_outbox_until_they_are_cleared
            a_broken_stream_gives_the_job_away_after_the_grace
            amnesty_gives_every_lease_a_full_life
            waiting_jobs_come_by_tenant_with_least_slack_first
            the_oldest_wait_ends_with_the_first_start
            demand_is_counted_by_lane_class_and_time
            leases_are_counted_by_worker
            usage_counts_each_moment_of_a_worker_once
            messages_that_may_be_lost_are_published_again
            an_intact_queue_is_not_sent_its_messages_again
            a_deadline_is_kept_in_an_intact_queue
            the_outbox_is_read_by_queue
            a_repetition_is_known_by_all_its_keys
            lists_are_paged_and_filtered
            retention_removes_results_first_and_jobs_later
            counts_follow_every_change
            one_autoscaler_leads_and_the_past_writes_nothing
            a_machine_is_written_version_by_version
            a_machine_is_left_from_its_end_on
            a_repeated_write_is_answered_as_the_first
            nothing_is_written_under_another_switch
            an_operators_order_stands_above_the_leader
            the_ledger_is_read_in_pages_and_forgets_what_ended_long_ago
        }
    };
    ($world:path: $($story:ident)*) => {$(
        #[tokio::test]
        async fn $story() {
            let (world, kept) = $world().await;
            $crate::store::contract::$story(world).await;
            drop(kept);
        }
    )*};
}
