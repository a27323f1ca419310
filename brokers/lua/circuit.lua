-- One circuit. KEYS: its state (hash: failures, openings, until, probe; times in milliseconds of our clock)
-- ARGV: ask | look | success | failure, failures allowed, first while, longest while, probe lease, now (0: our clock)
-- ask and look give -1 when it is closed, 0 when the asker may probe (ask takes the probe), else milliseconds to wait
local what, allowed = ARGV[1], tonumber(ARGV[2])
local first, longest, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[6])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local read = redis.call('HMGET', KEYS[1], 'failures', 'openings', 'until', 'probe')
local failures, openings = tonumber(read[1] or 0), tonumber(read[2] or 0)
local open_until, probe = tonumber(read[3] or 0), tonumber(read[4] or 0)

if what == 'success' then
  redis.call('DEL', KEYS[1])
  return -1
end

if what == 'failure' then
  failures = failures + 1
  local opens = failures >= allowed and now >= open_until
  if opens then
    openings = openings + 1
    open_until = now + math.min(longest, first * 2 ^ math.min(openings - 1, 20))
  end
  redis.call('HSET', KEYS[1], 'failures', failures, 'openings', openings, 'until', string.format('%.0f', open_until), 'probe', 0)
  redis.call('PEXPIRE', KEYS[1], longest * 5)
  return opens and -2 or 0
end

if openings == 0 then return -1 end
if now < open_until then return open_until - now end
if now < probe then return probe - now end
if what == 'ask' then redis.call('HSET', KEYS[1], 'probe', string.format('%.0f', now + lease)) end
return 0
