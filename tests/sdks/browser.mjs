// Opens a page in a headless Chromium, on another origin than Usher's, and lets a browser SDK send from it.
// On stdin {sdk, url, key}; prints {errors, unavailable}: `unavailable` says why this machine cannot start Chromium.
import { createReadStream, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import chromium from '@sparticuz/chromium'
import puppeteer from 'puppeteer-core'

const told = JSON.parse(readFileSync(0, 'utf8'))
const scripts = {
  segment: 'node_modules/@segment/analytics-next/dist/umd/index.js',
  rudderstack: 'node_modules/@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js',
  snowplow: 'node_modules/@snowplow/browser-tracker/dist/index.umd.js',
}

// What a site's owner writes into a page, for each SDK.
const pages = {
  segment: ({ url, key }) => {
    const apiHost = new URL(url).host + '/v1'
    const analytics = window.AnalyticsNext.AnalyticsBrowser.load(
      { writeKey: key, cdnURL: url },
      { integrations: { 'Segment.io': { apiHost, protocol: 'http' } } },
    )
    analytics.identify('ann', { plan: 'pro', seats: 3 })
    analytics.page('Home', { section: 'shoes' })
    analytics.track('bought', { channel: 'web', amount: 12.5 })
  },
  rudderstack: ({ url, key }) => {
    const analytics = new window.rudderanalytics.RudderAnalytics()
    analytics.load(key, url, { configUrl: url, logLevel: 'ERROR' })
    analytics.identify('ann', { plan: 'pro', seats: 3 })
    analytics.page('Home', { section: 'shoes' })
    analytics.track('bought', { channel: 'web', amount: 12.5 })
  },
  snowplow: ({ url }) => {
    const { newTracker, setUserId, trackPageView, trackStructEvent, trackSelfDescribingEvent } = window.snowplowBrowserTracking
    newTracker('shop', url, { appId: 'shop-web' })
    setUserId('ann')
    trackPageView()
    trackStructEvent({ category: 'shop', action: 'add_to_basket', label: 'SKU-1', value: 12.5 })
    trackSelfDescribingEvent({
      event: {
        schema: 'iglu:com.example/bought/jsonschema/1-0-2',
        data: { channel: 'web', amount: 12.5, note: 'Füße 🎈' },
      },
      context: [{ schema: 'iglu:com.example/product/jsonschema/1-0-0', data: { sku: 'SKU-1' } }],
    })
  },
}

async function open() {
  try {
    const executablePath = await chromium.executablePath()
    return await puppeteer.launch({ args: chromium.args, executablePath, headless: 'shell' })
  } catch (error) {
    process.stdout.write(JSON.stringify({ unavailable: String(error?.message ?? error), errors: [] }), () => process.exit(0))
    await new Promise(() => {})
  }
}

const site = createServer((request, response) => {
  if (request.url === '/sdk.js') {
    createReadStream(scripts[told.sdk]).pipe(response.setHeader('content-type', 'text/javascript'))
  } else {
    response.setHeader('content-type', 'text/html')
    response.end('<!doctype html><title>Shop</title><script src="/sdk.js"></script>')
  }
})
await new Promise((listening) => site.listen(0, '127.0.0.1', listening))

const browser = await open()
const page = await browser.newPage()
const errors = []
page.on('pageerror', (error) => errors.push(String(error)))
page.on('console', (line) => { if (line.type() === 'error') errors.push(line.text()) })
page.on('requestfailed', (request) => errors.push(`${request.method()} ${request.url()} ${request.failure()?.errorText}`))
const wanted = told.events
let answered = 0
const done = new Promise((resolve) => {
  page.on('response', (response) => {
    const request = response.request()
    if (!request.url().startsWith(told.url) || request.method() !== 'POST' || !response.ok()) return
    answered += JSON.parse(request.postData() ?? '{}').data?.length ?? 1 // Snowplow's may send several at once
    if (answered >= wanted) resolve()
  })
})
await page.goto(`http://127.0.0.1:${site.address().port}/shoes`)
await page.evaluate(pages[told.sdk], { url: told.url, key: told.key })
await Promise.race([done, new Promise((late) => setTimeout(late, 60_000))])
await browser.close()
process.stdout.write(JSON.stringify({ errors, answered }), () => process.exit(0))
