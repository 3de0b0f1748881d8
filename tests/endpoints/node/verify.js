// Verifies a Standard Webhooks request: a line of JSON with the headers, then the body. Exits with 3 if it is not signed.
import { readFileSync } from "node:fs";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const input = readFileSync(0, "utf8");
const end = input.indexOf("\n");
try {
  const event = new Webhook(process.env.SECRET).verify(input.slice(end + 1), JSON.parse(input.slice(0, end)));
  if (event.event !== "file_uploaded") throw new Error(`another event: ${event.event}`);
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  process.exit(3);
}
