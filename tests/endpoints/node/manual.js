// An endpoint in the spirit of SmartShape's manual, with the faults of its sample.

import bcrypt from 'bcrypt';
import express from 'express';

import { secret, serve } from './serve.js';

const SECRET = secret();

const app = express();
app.use(express.json({ limit: '50mb' }));

app.post('/callback', (request, response) => {
  if (!bcrypt.compareSync(SECRET, request.headers['x-smartshape-token'])) {
    // Faulty on purpose: nothing ends the answer.
    response.status(400);
    return;
  }
  response.json({ success: true });
});

serve(app);
