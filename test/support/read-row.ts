/** When a scripted server answers, by its clock. */
export const NOW = 1_764_000_000_000;

/** A row of READ: a record that stands, is not expired and has the payload that was asked for. */
export const READ_ROW = {
  status: 'pending',
  attempt: 1,
  abandoned: 0,
  same: true,
  expired: false,
  lease_over: null,
  standby_awaited: false,
  format: 1,
  response_status: null,
  response_headers: null,
  response_body: null,
  expires_at_ms: NOW + 1_000,
  database_now_ms: NOW,
};
