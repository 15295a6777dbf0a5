import type { ChannelOptions } from '@grpc/grpc-js';
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS } from './keepalive.ts';

export interface ClientChannelLimits {
  /** Largest message sent or received, in bytes. */
  readonly maxMessageBytes: number;
  /** Its own TCP connection, shared with no other client of the same address (for long-lived streams). Default false. */
  readonly ownConnection?: boolean;
}

/** Options of a client channel inside a cluster: dead peers are noticed within 40 s even while idle, and a lost peer is retried at least every 2 s. */
export function clientChannelOptions(limits: ClientChannelLimits): ChannelOptions {
  return {
    'grpc.max_send_message_length': limits.maxMessageBytes,
    'grpc.max_receive_message_length': limits.maxMessageBytes,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 2_000,
    'grpc.dns_min_time_between_resolutions_ms': 2_000,
    // Who retries what is decided where requests are known, not in the transport.
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
    // Peers are addressed directly; a proxy from the environment must not come between.
    'grpc.enable_http_proxy': 0,
    'grpc.use_local_subchannel_pool': limits.ownConnection === true ? 1 : 0,
  };
}
