-- Raises the counts of the calendar windows under way to what is known to have been used.
-- KEYS and ARGV as in take.lua, then: now (0: our clock), and how many for each window
local SECOND, IST = 1000000, 19800000000
local many = tonumber(ARGV[1])
local rest = 2 + 3 * many
local now = tonumber(ARGV[rest])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end
local longest = 0
for i = 1, many do
  local seconds, known = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[rest + i])
  if seconds > 1 then
    local which = math.floor((now + IST) / (seconds * SECOND))
    local stored = tonumber(redis.call('HGET', KEYS[1], 'w' .. seconds))
    local used = 0
    if stored and stored >= which then
      which, used = stored, tonumber(redis.call('HGET', KEYS[1], 'c' .. seconds))
    end
    redis.call('HSET', KEYS[1], 'w' .. seconds, string.format('%.0f', which), 'c' .. seconds, math.max(used, known))
    longest = math.max(longest, seconds)
  end
end
if longest > 0 then redis.call('EXPIRE', KEYS[1], longest + 60) end
return {}
