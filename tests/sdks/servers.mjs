// Sends calls by one of Node's SDKs. On stdin {sdk, url, key, calls: [[method, parameters]], retries}; prints {errors}.
import { readFileSync } from 'node:fs'
import { Analytics } from '@segment/analytics-node'
import RudderAnalytics from '@rudderstack/rudder-sdk-node'

const told = JSON.parse(readFileSync(0, 'utf8'))
const errors = []
const note = (error) => errors.push(String(error?.message ?? error?.reason ?? error))
// Neither takes a date as text.
const dated = ({ timestamp, ...rest }) => (timestamp ? { ...rest, timestamp: new Date(timestamp) } : rest)

async function bySegment() {
  const client = new Analytics({
    writeKey: told.key, host: told.url, maxRetries: told.retries, flushInterval: 500, httpRequestTimeout: told.timeoutMs,
  })
  client.on('error', note)
  for (const [method, parameters] of told.calls) client[method](dated(parameters))
  await client.closeAndFlush({ timeout: 60_000 })
}

async function byRudderStack() {
  const client = new RudderAnalytics(told.key, {
    dataPlaneUrl: told.url, flushInterval: 500, logLevel: 'error', retryCount: told.retries, errorHandler: note,
    axiosConfig: { timeout: told.timeoutMs },
  })
  const sent = told.calls.map(([method, parameters]) =>
    new Promise((done) => client[method](dated(parameters), (error) => { if (error) note(error); done() })))
  await client.flush()
  await Promise.all(sent)
}

await { segment: bySegment, rudderstack: byRudderStack }[told.sdk]()
process.stdout.write(JSON.stringify({ errors }), () => process.exit(0))
