-- Takes as many tokens as every window has room for.
-- KEYS: counts of the calendar windows (hash), grants of the last second (list of "microseconds:count", oldest first)
-- ARGV: how many windows, for each {seconds, cap of all, cap of places}, wanted, urgent, guard, now (0: our clock)
-- Gives {granted, microseconds until one more may be had, now, whether nothing was counted before}
local SECOND, IST = 1000000, 19800000000
local many = tonumber(ARGV[1])
local rest = 2 + 3 * many
local wanted, urgent, guard = tonumber(ARGV[rest]), ARGV[rest + 1] == '1', tonumber(ARGV[rest + 2])
local now = tonumber(ARGV[rest + 3])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end
-- A clock that was set back stands still until it has caught up.
local newest = redis.call('LINDEX', KEYS[2], -1)
if newest then now = math.max(now, tonumber(string.match(newest, '^(%d+):'))) end

local grants, granted_lately, short = {}, 0, false
for _, entry in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local at, count = string.match(entry, '^(%d+):(%d+)$')
  at, count = tonumber(at), tonumber(count)
  if at <= now - SECOND then
    redis.call('LPOP', KEYS[2])
  else
    grants[#grants + 1] = {at, count}
    granted_lately = granted_lately + count
  end
end

local counted = redis.call('HGETALL', KEYS[1])
local fields = {}
for i = 1, #counted, 2 do fields[counted[i]] = tonumber(counted[i + 1]) end

local windows, granted, longest = {}, wanted, 1
for i = 1, many do
  local seconds, all, places = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local window = {seconds = seconds, cap = urgent and all or places}
  if seconds == 1 then
    short, window.used = true, granted_lately
  else
    window.which = math.floor((now + IST) / (seconds * SECOND))
    local stored = fields['w' .. seconds]
    if stored and stored >= window.which then
      window.which, window.used = stored, fields['c' .. seconds]
    else
      window.used = 0
    end
    longest = math.max(longest, seconds)
  end
  granted = math.min(granted, window.cap - window.used)
  windows[i] = window
end
if granted < 0 or (short and now % SECOND >= SECOND - guard) then granted = 0 end

if granted > 0 then
  for _, window in ipairs(windows) do
    window.used = window.used + granted
    if window.seconds > 1 then
      redis.call('HSET', KEYS[1], 'w' .. window.seconds, string.format('%.0f', window.which), 'c' .. window.seconds, window.used)
    end
  end
  if longest > 1 then redis.call('EXPIRE', KEYS[1], longest + 60) end
  if short then
    grants[#grants + 1] = {now, granted}
    redis.call('RPUSH', KEYS[2], string.format('%.0f:%d', now, granted))
    redis.call('PEXPIRE', KEYS[2], 10000)
  end
end

local wait = 0
if granted < wanted then
  for _, window in ipairs(windows) do
    local over = window.used - window.cap
    if over >= 0 then
      local until_less = window.seconds * SECOND
      if window.seconds > 1 then
        local which = math.floor((now + IST) / until_less)
        until_less = math.min(until_less, (which + 1) * until_less - IST - now)
      else
        local freed = 0
        for _, grant in ipairs(grants) do
          freed = freed + grant[2]
          if freed > over then
            until_less = math.min(SECOND, grant[1] + SECOND - now)
            break
          end
        end
      end
      wait = math.max(wait, until_less)
    end
  end
  local into = (now + wait) % SECOND
  if short and into >= SECOND - guard then wait = wait + SECOND - into end
end
return {granted, wait, now, #counted == 0 and 1 or 0}
