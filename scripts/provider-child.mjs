// The payment provider as a child of `npm start`: it ends when its parent does.
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
await import('../dist/apps/payment-provider/main.js');
