// Sends three events by Snowplow's tracker for Node. On stdin {url, application, method, userId, trueMs}; prints {failed}.
import { readFileSync } from 'node:fs'
import {
  buildPageView, buildSelfDescribingEvent, buildStructEvent, newTracker,
} from '@snowplow/node-tracker'

const told = JSON.parse(readFileSync(0, 'utf8'))
let failed = 0
const tracker = newTracker(
  { namespace: 'shop', appId: told.application },
  {
    endpoint: told.url, eventMethod: told.method, bufferSize: 10,
    onRequestFailure: () => { failed += 1 },
  },
)
tracker.setUserId(told.userId)
tracker.setDomainUserId('visitor-1')
tracker.track(buildPageView({ pageUrl: 'https://shop.example/shoes', pageTitle: 'Shoes', referrer: 'https://b.example' }))
tracker.track(buildStructEvent({ category: 'shop', action: 'add_to_basket', label: 'SKU-1', property: 'red', value: 12.5 }))
tracker.track(
  buildSelfDescribingEvent({
    event: {
      schema: 'iglu:com.example/bought/jsonschema/1-0-2',
      data: { channel: 'web', amount: 12.5, note: 'Füße 🎈' },
    },
  }),
  [{ schema: 'iglu:com.example/product/jsonschema/1-0-0', data: { sku: 'SKU-1' } }],
  { type: 'ttm', value: told.trueMs },
)
// What failed stays in the queue for the next flush; the tracker says so a turn of the loop later.
for (let tries = 0; tries <= failed && tries < 4; tries += 1) {
  await tracker.flush()
  await new Promise((said) => setTimeout(said, 20))
}
process.stdout.write(JSON.stringify({ failed }), () => process.exit(0))
