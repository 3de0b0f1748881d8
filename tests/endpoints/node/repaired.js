// The manual's endpoint without its faults: the token before the body, no token that is costly to
// check, and an answer to everything.

import bcrypt from 'bcrypt';
import express from 'express';

import { secret, serve } from './serve.js';

const SECRET = secret();

// Costs above 12 are rejected: whoever sends a token chooses how long it takes to check.
const TOKEN = /^\$2[aby]\$(0[4-9]|1[0-2])\$[./A-Za-z0-9]{53}$/;

const FIELDS = {
  file: ['string'],
  event: ['string'],
  data: ['object'],
  owner: ['string', 'object'],
  runTimestamp: ['number', 'string'],
  uuid: ['string'],
};

async function authenticate(request, response, next) {
  const token = request.get('x-smartshape-token') ?? '';
  // bcrypt for Node does not know PHP's name of the same variant.
  if (TOKEN.test(token) && (await bcrypt.compare(SECRET, token.replace(/^\$2y/, '$2b')))) {
    next();
  } else {
    response.status(401).json({ success: false, error: 'unauthorized' });
  }
}

function isEvent(body) {
  return Object.entries(FIELDS).every(([field, types]) => body[field] !== null && types.includes(typeof body[field]));
}

const app = express();

app.post('/callback', authenticate, express.json({ limit: '50mb' }), (request, response) => {
  // Without a body, or with one that does not say that it is JSON, there is no `body`.
  if (isEvent(request.body ?? {})) {
    response.json({ success: true });
  } else {
    response.status(400).json({ success: false, error: 'body is not a SmartShape event' });
  }
});

app.use((error, request, response, next) => {
  if (response.headersSent) {
    next(error);
    return;
  }
  response.status(error.status ?? 500).json({ success: false, error: error.type ?? 'internal error' });
});

serve(app);
