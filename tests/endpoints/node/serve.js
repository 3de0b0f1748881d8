// The settings that the example servers have too.

export function secret() {
  const secret = process.env.SMARTSHAPE_WEBHOOK_SECRET;
  if (!secret) {
    console.error('SMARTSHAPE_WEBHOOK_SECRET is not set: set it to the secret of the webhook');
    process.exit(2);
  }
  return secret;
}

export function serve(app) {
  const [host, port] = (process.env.LISTEN ?? '127.0.0.1:8042').split(':');
  const server = app.listen(Number(port), host, () => {
    console.error(`listening on http://${host}:${server.address().port}`);
  });
  process.on('SIGTERM', () => process.exit(0));
}
