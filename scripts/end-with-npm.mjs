/**
 * Ends this process when the npm that started it is gone: npm runs a script below a shell that keeps a SIGTERM for
 * itself and dies of it, which would leave the app behind.
 */
export function endWithNpm() {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM');
  }, 200).unref();
}
