//! The conformance table: every case on every target, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail the test"
)]

mod bodies;
mod connections;
mod duplicates;
mod early;
mod events;
mod http2;
mod leaving;
mod nginx;
mod responses;
mod secrets;
mod stacks;
mod tokens;
mod traps;

use conformance::harness::Harness;
use conformance::target::Target;

/// One module of tests for each target, with one test for each case.
macro_rules! table {
    ($($name:ident: $target:ident;)*) => {$(
        mod $name {
            use super::*;

            const TARGET: Target = Target::$target;

            cases! {
                responses: wrong_method, missing_and_wrong_tokens,
                    bodies_without_an_event, handler_failures, other_routes_are_untouched,
                    connections_are_kept;
                tokens: vectors_of_other_implementations, header_in_any_case, repeated_tokens,
                    malformed_tokens_cost_nothing, costly_tokens_cost_nothing, token_of_many_requests_is_hashed_once,
                    clients_are_queued_fairly;
                events: the_nine_samples, unrecognized_events_reach_the_handler, typed_extractor;
                bodies: rejected_before_the_body, rest_of_a_rejected_body, expect_continue, content_codings, limits,
                    lying_lengths,
                    three_megabytes, memory_limit, stalled_body;
                connections: silent_connections_and_slow_heads_hold_nothing, trickling_body, rejected_body_is_no_request,
                    pipelined_requests_get_responses_in_order, close_after_connection_upgrade_is_announced,
                    resets_leave_nothing_behind;
                early: early_response_announces_the_close, node_gets_the_rejection_while_it_uploads,
                    node_never_reuses_a_connection_that_ends;
                nginx: rejected_uploads_cost_no_delivery;
                http2: responses_are_those_of_http1, large_bodies_pass_the_windows, rejected_uploads_block_nobody,
                    resets_in_mid_body_leave_nothing, handler_survives_reset, rapid_resets_do_nothing_twice,
                    client_without_window_for_the_response_holds_nothing, client_without_window_for_a_rejection_blocks_nobody,
                    stalled_streams_end_one_by_one;
                duplicates: after_success, after_failure, while_the_first_succeeds, while_the_first_fails,
                    while_the_first_panics, keys_have_three_parts;
                leaving: handler_survives_disconnect, leaving_frees_or_finishes, permits_are_bounded, draining;
                secrets: rotation, scope, names;
            }
        }
    )*};
}

macro_rules! cases {
    ($($module:ident: $($case:ident),*;)*) => {$($(
        #[test]
        fn $case() {
            Harness::run(TARGET, $module::$case);
        }
    )*)*};
}

table! {
    axum_endpoint: AxumEndpoint;
    axum_extractor: AxumExtractor;
    axum_plain: AxumPlain;
    hyper_endpoint: HyperEndpoint;
    actix_endpoint: ActixEndpoint;
    actix_extractor: ActixExtractor;
    warp_endpoint: WarpEndpoint;
    warp_filter: WarpFilter;
}
