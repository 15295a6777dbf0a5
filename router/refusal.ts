import { status } from '@grpc/grpc-js';
import { RpcError } from '../rpc/status.ts';

/** INVALID_ARGUMENT that names a field, its value and what is allowed. */
export function invalid(
  field: string,
  value: string,
  limit: string,
  message: string,
  reason = 'INVALID_FIELD',
): RpcError {
  return new RpcError(status.INVALID_ARGUMENT, reason, message, { metadata: { field, value, limit } });
}
